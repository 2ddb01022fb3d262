package server_test

import (
	"slices"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// base is a cluster that belongs to no Service.
func base() envoy.Resource { return cluster("base", "") }

// bare returns a sidecar that has what it gets before any call if no cluster of a Service is preloaded: the base cluster and
// the scope by which it asks.
func bare(t *testing.T, c *control, n *corev3.Node) *proxy {
	t.Helper()
	p := c.connect(t, n)
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base")
	p.subscribe(envoy.ScopedRouteType)
	p.take(envoy.ScopedRouteType, "ask")
	return p
}

// call is the first request to a destination. The clusters, which have endpoints of the same name, are those of its routes
// that the sidecar does not have.
func (p *proxy) call(destination string, clusters ...string) {
	p.t.Helper()
	p.subscribe(envoy.ClusterType, envoy.Demand(destination))
	var cold *discoveryv3.DeltaDiscoveryResponse
	if len(clusters) > 0 {
		cold = p.expect(envoy.ClusterType, clusters...)
	}
	p.scope(destination)
	if len(clusters) > 0 {
		p.subscribe(envoy.EndpointType, clusters...)
		p.take(envoy.EndpointType, clusters...)
		p.ack(cold)
	}
	p.take(envoy.RouteType, destination)
	p.answer(destination)
}

// scope takes the scopes of destinations. Envoy asks for their routes at once.
func (p *proxy) scope(destinations ...string) {
	p.t.Helper()
	res := p.expect(envoy.ScopedRouteType, destinations...)
	p.subscribe(envoy.RouteType, destinations...)
	p.ack(res)
}

// noScope takes the removal of a scope. Envoy gives up its routes before it acknowledges that.
func (p *proxy) noScope(destination string) {
	p.t.Helper()
	res := p.expect(envoy.ScopedRouteType, "-"+destination)
	p.unsubscribe(envoy.RouteType, destination)
	p.ack(res)
}

// answer takes the answer to demands, each for the first time.
func (p *proxy) answer(destinations ...string) {
	p.t.Helper()
	var want []string
	for _, destination := range destinations {
		want = append(want, "-"+envoy.Demand(destination))
	}
	p.take(envoy.ClusterType, want...)
}

// repeats takes from a response the answers that have been given before, and reports whether nothing is left.
func (p *proxy) repeats(res *discoveryv3.DeltaDiscoveryResponse) bool {
	p.t.Helper()
	if res.TypeUrl != envoy.ClusterType || len(res.RemovedResources) == 0 {
		return false
	}
	res.RemovedResources = slices.DeleteFunc(res.RemovedResources, func(cluster string) bool {
		if _, is := envoy.DemandOf(cluster); !is {
			return false
		}
		p.answered[cluster]++
		if n := p.answered[cluster]; n > 1+len(server.Repeats()) {
			p.t.Fatalf("%q is answered %d times", cluster, n)
		}
		return p.answered[cluster] > 1
	})
	return len(res.Resources) == 0 && len(res.RemovedResources) == 0
}

// noRoutes takes the routes for a destination that no Service has: each request is answered, and none asks again.
func noRoutes(t *testing.T, p *proxy, destination string) {
	t.Helper()
	got := only(t, p.take(envoy.RouteType, destination), &routev3.RouteConfiguration{})
	if want := envoy.NoService(destination).Message; !proto.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func noEndpoints(t *testing.T, p *proxy, name string) {
	t.Helper()
	got := only(t, p.take(envoy.ClusterType, name), &clusterv3.Cluster{})
	if got.GetType() != clusterv3.Cluster_STATIC || got.EdsClusterConfig != nil || got.LoadAssignment != nil {
		t.Errorf("got %v, want a static cluster without endpoints", got)
	}
}
