package server_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func TestRouteWaitsForItsOwnClustersOnly(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "cold"), service("shop", "good"))...)
	p := bare(t, c, pod("one", "n1"))

	p.subscribe(envoy.ClusterType, envoy.Demand("cold"))
	p.take(envoy.ClusterType, "cold") // and never asks for its endpoints
	p.scope("cold")
	p.call("good", "good")
	p.quiet()
}

func TestRouteChangesToAFurtherCluster(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("bank", "b"))...)
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a")

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
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a", "b")

	c.remove(t, cluster("b", "b"))
	p.take(envoy.ClusterType, "-b")
	c.set(t, in("bank", cluster("b", "b"))...)
	clusters := p.expect(envoy.ClusterType, "b")
	p.take(envoy.EndpointType, "b") // the subscription is the old one, the cluster warms anew
	p.ack(clusters)
	p.quiet()
}

// A cluster goes when the routes that refer to it have changed, even if earlier routes are not acknowledged yet.
func TestClusterStaysUntilRoutesHaveMovedOn(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"))...)
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a")
	c.set(t, in("shop", routeTo("a", "a", "base"))...)
	late := p.expect(envoy.RouteType, "a")
	c.apply(t, envoy.Change{Set: in("shop", routeTo("a", "base")), Remove: ids([]envoy.Resource{cluster("a", "a"), endpoints("a", 0)})})
	p.quiet()
	p.ack(late)
	moved := p.expect(envoy.RouteType, "a")
	p.quiet()
	p.ack(moved)
	p.take(envoy.ClusterType, "-a")
	p.take(envoy.EndpointType, "-a")
	p.quiet()
}

// A series of first calls, each made before the clusters of the one before are warm, holds up listeners no longer than the
// clusters and scopes that were on their way.
func TestFirstCallsHoldUpNoListener(t *testing.T) {
	c := start(t)
	var called []string
	all := []envoy.Resource{base()}
	for i := range 12 {
		called = append(called, fmt.Sprintf("s%02d", i))
		all = append(all, service("shop", called[i])...)
	}
	c.set(t, all...)
	p := bare(t, c, pod("one", "n1"))
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType)
	p.subscribe(envoy.ClusterType, envoy.Demand(called[0]))
	for calls := 1; ; {
		switch res := p.response("the new listener"); {
		case res.TypeUrl == envoy.ListenerType:
			if got := content(res); !slices.Equal(got, []string{"new"}) {
				t.Fatalf("got listeners %q", got)
			}
			return
		case res.TypeUrl == envoy.ClusterType && len(res.Resources) > 0:
			if calls == len(called) {
				t.Fatalf("no listener while %d Services were called for the first time", calls)
			}
			if calls == 3 {
				c.set(t, listener("new"))
			}
			// The next call comes before the clusters of this one are there.
			p.subscribe(envoy.ClusterType, envoy.Demand(called[calls]))
			calls++
			p.subscribe(envoy.EndpointType, content(res)...)
			p.ack(res)
		case res.TypeUrl == envoy.ScopedRouteType:
			p.subscribe(envoy.RouteType, content(res)...)
			p.ack(res)
		default:
			p.ack(res)
		}
	}
}
