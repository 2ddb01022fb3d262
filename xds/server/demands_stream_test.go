package server_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// Without such a Service every request is answered, by routes whose requests do not ask again.
func TestNoServiceIsAnAnswer(t *testing.T) {
	c := start(t)
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	p.subscribe(envoy.ClusterType, envoy.Demand("none"))
	p.scope("none")
	got := only(t, p.take(envoy.RouteType, "none"), &routev3.RouteConfiguration{})
	p.answer("none")
	p.quiet()
	for _, route := range got.VirtualHosts[0].Routes {
		if status := route.GetDirectResponse().GetStatus(); status != 503 {
			t.Errorf("route %v answers %d, want 503", route, status)
		}
	}
	if domains := got.VirtualHosts[0].Domains; len(got.VirtualHosts) != 1 || !slices.Equal(domains, []string{"*"}) || len(got.VirtualHosts[0].Routes) == 0 {
		t.Errorf("got %v, want routes for every request", got)
	}
	for _, filter := range []string{"ask_key", "ask_scope", "ask", "destination_key", "destination_scope"} {
		var disabled routev3.FilterConfig
		if err := got.TypedPerFilterConfig[filter].UnmarshalTo(&disabled); err != nil || !disabled.Disabled {
			t.Errorf("filter %s: got %v, %v, want it disabled", filter, &disabled, err)
		}
	}
}

// Clusters that do not get warm hold back their acknowledgement, and with it the clusters of further first calls, but no
// answer. The answer is none that the server waits for.
func TestAnswerPassesClusters(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("shop", "cold"), in("shop", routeTo("b", "a")))...)
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a")
	p.subscribe(envoy.ClusterType, envoy.Demand("cold"))
	cold := p.expect(envoy.ClusterType, "cold")
	p.scope("cold")

	p.call("none")
	p.call("b")
	c.set(t, clusterWith("base", "", "changed"))
	p.quiet() // the answers are acknowledged, but not the clusters
	p.subscribe(envoy.EndpointType, "cold")
	p.take(envoy.EndpointType, "cold")
	p.ack(cold)
	p.take(envoy.ClusterType, "base")
	p.take(envoy.RouteType, "cold")
	p.answer("cold")
	p.quiet()
}

// A worker of Envoy may ask after the answer has come, which the sidecar does not say again. So the answer comes again, to
// the proxy that asked alone.
func TestAnswerIsRepeated(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.set(t, append(service("shop", "a"), base())...)
	p, other := bare(t, c, pod("one", "n1")), bare(t, c, pod("two", "n1"))
	before := time.Now()
	p.call("a", "a")
	for _, after := range server.Repeats() {
		res := p.any("a repetition")
		if got := content(res); res.TypeUrl != envoy.ClusterType || !slices.Equal(got, []string{"-" + envoy.Demand("a")}) {
			t.Fatalf("got %s %q", res.TypeUrl, got)
		}
		if took := time.Since(before); took < after {
			t.Errorf("repeated after %v, want %v", took, after)
		}
		p.ack(res)
	}
	p.quiet()
	other.quiet()
}

// One answer to each demand is all that a proxy hears that comes back with what it had. Where there is no Service, it comes
// when the replica has had the time to learn of it.
func TestDemandsAfterReconnect(t *testing.T) {
	t.Parallel()
	const more = 2
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, append(slices.Concat(service("shop", "a"), service("bank", "b")), base())...)
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a")
	p.call("b", "b")
	var gone []string // with routes, more of them than are answered to one proxy
	held := map[string]map[string]string{envoy.ClusterType: {"base": c.version(t, envoy.ClusterType, "base")}, envoy.ScopedRouteType: {"ask": server.ScopeVersion("ask")}, envoy.RouteType: {}, envoy.EndpointType: {}}
	demands := []string{"*"}
	for i := range server.MaxAbsent + more {
		gone = append(gone, fmt.Sprintf("gone-%03d", i))
	}
	for _, name := range append([]string{"a", "b"}, gone...) {
		demands = append(demands, envoy.Demand(name))
		held[envoy.ScopedRouteType][name] = server.ScopeVersion(name)
		held[envoy.RouteType][name] = "1"
		if name == "a" || name == "b" {
			for _, typeURL := range []string{envoy.ClusterType, envoy.EndpointType, envoy.RouteType} {
				held[typeURL][name] = c.version(t, typeURL, name)
			}
		}
	}
	p.close()

	p = c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, held[envoy.ClusterType], demands...)
	p.quiet() // it may be that it has not listed its scopes and routes yet
	p.resume(envoy.ScopedRouteType, held[envoy.ScopedRouteType])
	p.quiet()
	p.resume(envoy.RouteType, held[envoy.RouteType], append([]string{"a", "b"}, gone...)...)
	p.quiet()
	p.resume(envoy.EndpointType, held[envoy.EndpointType], "a", "b")
	p.answer("a", "b")
	p.quiet()
	p.take(envoy.RouteType, gone[:server.MaxAbsent]...)
	p.answer(gone...)
	p.quiet()

	// Services that come then, come all the same.
	last := gone[server.MaxAbsent+more-1]
	c.set(t, service("shop", last)...)
	p.warm(last)
	p.take(envoy.RouteType, last)
	p.quiet()
}

// A demand that crosses the removal of a preloaded scope is answered when the scope has come back.
func TestDemandCrossesARemoval(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	c.set(t, service("shop", "a")...)
	p.pushed("a")
	p.quiet()
	c.remove(t, service("shop", "a")...)
	noRoutes(t, p, "a")
	gone := p.expect(envoy.ScopedRouteType, "-a")
	p.subscribe(envoy.ClusterType, envoy.Demand("a"))
	p.quiet()
	p.unsubscribe(envoy.RouteType, "a")
	p.ack(gone)
	for range 2 { // the scope comes back, and what the scope has referred to goes
		switch res := p.response("scope a, or the removal of cluster a"); res.TypeUrl {
		case envoy.ScopedRouteType:
			p.subscribe(envoy.RouteType, content(res)...)
			p.ack(res)
			noRoutes(t, p, "a")
			p.answer("a")
			p.take(envoy.ClusterType, "-a")
		default:
			p.ack(res)
		}
	}
	p.quiet()
}

// The demand is not what a workload uses, the routes are. Nor are routes by their former names.
func TestDemandIsNotUsed(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("bank", "a"), lazy(in("bank", routeTo("outbound/bank/a/80", "a"))...))...)
	n := node.Node{Namespace: "shop", Pod: "one", ServiceAccount: "default", Workload: "Deployment/web"}
	p := bare(t, c, n.Proto())
	p.subscribe(envoy.RouteType, "outbound/bank/a/80")
	p.warm("a")
	p.take(envoy.RouteType, "outbound/bank/a/80")
	p.subscribe(envoy.ClusterType, envoy.Demand("a"))
	scopes := p.expect(envoy.ScopedRouteType, "a")
	bare(t, c, n.Proto()).quiet()

	p.subscribe(envoy.RouteType, "a")
	p.ack(scopes)
	p.take(envoy.RouteType, "a")
	p.answer("a")
	next := c.connect(t, n.Proto())
	next.subscribe(envoy.ClusterType)
	next.expect(envoy.ClusterType, "a", "base")
	next.subscribe(envoy.ScopedRouteType)
	next.expect(envoy.ScopedRouteType, "a", "ask")
}

// A sidecar comes from a control plane that sent a scope for each Service, whose routes have former names. It keeps the
// scopes, and the routes are kept up to date, until it asks for a scope.
func TestFormerScopes(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ResumeFor(longResume)
	former := func(targets ...string) envoy.Resource {
		return lazy(in("shop", routeTo("outbound/shop/a/80", targets...))...)[0]
	}
	c.set(t, slices.Concat([]envoy.Resource{base(), former("a")}, service("shop", "a"), service("bank", "b"))...)
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, map[string]string{"base": c.version(t, envoy.ClusterType, "base"), "a": c.version(t, envoy.ClusterType, "a")})
	p.resume(envoy.ListenerType, map[string]string{"out": "1"})
	p.resume(envoy.ScopedRouteType, map[string]string{"a": "1", "b": "1", "gone": "1"})
	p.take(envoy.ScopedRouteType, "ask")
	p.resume(envoy.RouteType, map[string]string{"outbound/shop/a/80": "1"}, "outbound/shop/a/80")
	p.resume(envoy.EndpointType, map[string]string{"a": c.version(t, envoy.EndpointType, "a")}, "a")
	p.take(envoy.RouteType, "outbound/shop/a/80")
	p.quiet()

	c.set(t, former("a", "b"))
	p.warm("b")
	p.take(envoy.RouteType, "outbound/shop/a/80")
	p.quiet()

	// A scope without routes is as good as none. Envoy gives up the former routes when the scope changes.
	p.call("b")
	c.set(t, listener("new"))
	p.take(envoy.ListenerType, "new")
	p.take(envoy.ListenerType, "-out") // so the time in which nothing is removed is over
	p.quiet()

	// Service a goes. Former routes to it have a request ask.
	c.remove(t, append(service("shop", "a"), former())...)
	if got := only(t, p.take(envoy.RouteType, "outbound/shop/a/80"), &routev3.RouteConfiguration{}); len(got.VirtualHosts) > 0 {
		t.Errorf("got %v, want no routes", got)
	}
	p.take(envoy.ClusterType, "-a")
	p.take(envoy.EndpointType, "-a")
	p.unsubscribe(envoy.EndpointType, "a")
	p.quiet()
	p.call("a")
	p.unsubscribe(envoy.RouteType, "outbound/shop/a/80")

	// It comes back, for who has asked.
	c.set(t, append(service("shop", "a"), former("a"))...)
	p.warm("a")
	p.take(envoy.RouteType, "a")
	p.quiet()
}

// A sidecar with former scopes is sent those that are preloaded. They take the place of the former ones.
func TestFormerScopesArePreloaded(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, append(service("shop", "a"), base())...)
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ScopedRouteType, map[string]string{"a": "1", "gone": "1"})
	p.take(envoy.ScopedRouteType, "a", "ask")
	p.quiet()
}

// Two proxies that ask for the same destination are answered each for itself, and what one asks for, the other is not sent.
func TestDemandsOfOneProxyAlone(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("shop", "b"))...)
	one, two := bare(t, c, pod("one", "n1")), bare(t, c, pod("two", "n1"))
	one.call("a", "a")
	two.quiet()
	two.call("a", "a")
	two.call("b", "b")
	one.quiet()
	if n := c.total(t, "mizzen_xds_nacks_total", ""); n != 0 {
		t.Errorf("%v refused", n)
	}
	// An answer is not counted as unacknowledged, even when the proxy refuses it.
	one.subscribe(envoy.ClusterType, envoy.Demand("none"))
	one.scope("none")
	noRoutes(t, one, "none")
	one.nack(one.expect(envoy.ClusterType, "-"+envoy.Demand("none")), "no")
	one.quiet()
	await(t, "nothing is unacknowledged", func() bool { return c.total(t, "mizzen_xds_unacknowledged_responses", "") == 0 })
}

// Many demands at once are answered together.
func TestManyDemands(t *testing.T) {
	const n = 300
	c := start(t)
	all := []envoy.Resource{base()}
	var names, demands []string
	for i := range n {
		names = append(names, fmt.Sprintf("s%03d", i))
		demands = append(demands, envoy.Demand(names[i]))
		all = append(all, service("shop", names[i])...)
	}
	c.set(t, all...)
	p := bare(t, c, pod("one", "n1"))
	p.subscribe(envoy.ClusterType, demands...)
	cold := p.expect(envoy.ClusterType, names...)
	p.scope(names...)
	p.subscribe(envoy.EndpointType, names...)
	p.take(envoy.EndpointType, names...)
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.ClusterType, ResponseNonce: cold.Nonce})
	p.take(envoy.RouteType, names...)
	p.answer(names...)
	p.quiet()
}
