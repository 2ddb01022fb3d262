package server_test

import (
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func TestRouteWaitsForItsOwnClustersOnly(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "cold"), service("shop", "good"))...)
	p := bare(t, c, pod("one", "n1"), "cold", "good")

	p.subscribe(envoy.RouteType, "cold")
	p.take(envoy.ClusterType, "cold") // and never asks for its endpoints
	p.subscribe(envoy.RouteType, "good")
	p.warm("good")
	p.take(envoy.RouteType, "good")
	p.quiet()
}

func TestRouteChangesToAFurtherCluster(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("bank", "b"))...)
	p := bare(t, c, pod("one", "n1"), "a", "b")
	p.subscribe(envoy.RouteType, "a")
	p.warm("a")
	p.take(envoy.RouteType, "a")

	c.set(t, in("shop", routeTo("a", "a", "b"))...)
	clusters := p.expect(envoy.ClusterType, "b")
	p.subscribe(envoy.EndpointType, "b")
	eps := p.expect(envoy.EndpointType, "b")
	p.quiet()
	p.ack(eps)
	p.quiet()
	p.ack(clusters)
	p.take(envoy.RouteType, "a")
	p.quiet()
}

// What a route refers to goes and comes back while the route stays.
func TestClusterOfARouteComesBack(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("bank", "b"))...)
	c.set(t, in("shop", routeTo("a", "a", "b"))...)
	p := bare(t, c, pod("one", "n1"), "a", "b")
	p.subscribe(envoy.RouteType, "a")
	p.warm("a", "b")
	p.take(envoy.RouteType, "a")

	c.remove(t, cluster("b", "b"))
	p.take(envoy.ClusterType, "-b")
	c.set(t, in("bank", cluster("b", "b"))...)
	clusters := p.expect(envoy.ClusterType, "b")
	p.take(envoy.EndpointType, "b") // the subscription is the old one, the cluster warms anew
	p.ack(clusters)
	p.quiet()
}
