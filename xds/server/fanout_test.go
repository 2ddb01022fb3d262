package server_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

func TestEndpointsReachOnlySubscribers(t *testing.T) {
	c := start(t)
	c.set(t, append(slices.Concat(service("shop", "a"), service("shop", "b")), base())...)
	calls := func(name string, services ...string) *proxy {
		p := bare(t, c, pod(name, "n1"))
		for _, s := range services {
			p.call(s, s)
		}
		return p
	}
	none, a, b, both := calls("none"), calls("a", "a"), calls("b", "b"), calls("both", "a", "b")
	const responses = "mizzen_xds_responses_total"
	before := c.total(t, responses, "ClusterLoadAssignment")

	const changes = 10
	for i := range uint32(changes) {
		c.set(t, in("shop", endpoints("a", i+1))...)
		a.take(envoy.EndpointType, "a")
		both.take(envoy.EndpointType, "a")
	}
	none.quiet()
	b.quiet()
	if got := c.total(t, responses, "ClusterLoadAssignment") - before; got != 2*changes {
		t.Errorf("%v responses, want %d", got, 2*changes)
	}
	await(t, "nothing pending and all acknowledged", func() bool {
		return c.total(t, "mizzen_xds_pending_changes", "")+c.total(t, "mizzen_xds_unacknowledged_responses", "") == 0
	})
}

func TestNothingIsKeptOfAStreamThatEnded(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 10}})
	c.set(t, append(service("shop", "a"), base(), listener("out"))...)
	var proxies []*proxy
	for i := range 3 {
		p := c.connect(t, pod(fmt.Sprint(i), "n1"))
		p.subscribe(envoy.ClusterType, "*", envoy.Demand("a"), envoy.Demand("gone"))
		p.subscribe(envoy.EndpointType, "a", "none")
		p.subscribe(envoy.RouteType, "a", "none")
		p.subscribe(envoy.ListenerType)
		p.subscribe(envoy.ScopedRouteType)
		p.subscribe("type.googleapis.com/some.Other", "x", "y")
		p.unsubscribe("type.googleapis.com/some.Other", "y")
		proxies = append(proxies, p)
	}
	await(t, "watching", func() bool { names, everything := c.store.Watched(); return names >= 7 && everything == 3*3 })
	for _, p := range proxies {
		p.close()
	}
	await(t, "nobody watching", func() bool { names, everything := c.store.Watched(); return names == 0 && everything == 0 })
	if len(c.Proxies()) > 0 {
		t.Errorf("got %v", c.Proxies())
	}
	if n := c.total(t, "mizzen_xds_connected_proxies", ""); n != 0 {
		t.Errorf("%v connected", n)
	}
}

// What comes and goes again and again leaves nothing behind, neither in the store nor on a stream that goes on.
func TestNothingIsKeptOfWhatIsGone(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	watched, _ := c.store.Watched()
	kept := c.store.Names()
	for i := range 100 {
		name := fmt.Sprint("s", i)
		p.subscribe(envoy.RouteType, name)
		p.take(envoy.RouteType, name)
		p.unsubscribe(envoy.RouteType, name)
		p.quiet()
		c.set(t, service("shop", name)...)
		p.pushed(name)
		p.quiet()
		c.remove(t, service("shop", name)...)
		noRoutes(t, p, name)
		p.noScope(name)
		p.take(envoy.ClusterType, "-"+name)
		p.take(envoy.EndpointType, "-"+name)
		p.unsubscribe(envoy.EndpointType, name)
	}
	await(t, "as much watched as before", func() bool { now, _ := c.store.Watched(); return now == watched })
	if now := c.store.Names(); now != kept {
		t.Errorf("the store keeps %d names, %d at first", now, kept)
	}
}

// A proxy that is slow to acknowledge scopes is then told of those that there are, not of those that came and went.
func TestSlowProxyGetsTheScopesThatAreThere(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 4}})
	c.set(t, append(service("shop", "stays"), base())...)
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.ClusterType)
	cold := p.expect(envoy.ClusterType, "base", "stays")
	p.subscribe(envoy.EndpointType, "stays")
	p.take(envoy.EndpointType, "stays")
	p.ack(cold)
	p.subscribe(envoy.ScopedRouteType)
	p.take(envoy.ScopedRouteType, "ask", "stays")
	route := func(name string) envoy.Resource { return in("shop", routeTo(name))[0] }
	c.set(t, route("goes"))
	late := p.expect(envoy.ScopedRouteType, "goes")
	c.remove(t, route("goes"))
	for i := range 2000 {
		name := route(fmt.Sprint("s", i))
		c.set(t, name)
		if i%100 == 0 {
			p.quiet()
		}
		c.remove(t, name)
	}
	c.set(t, route("new"))
	p.quiet()
	p.subscribe(envoy.RouteType, "goes")
	noRoutes(t, p, "goes")
	p.ack(late)
	p.take(envoy.ScopedRouteType, "new")
	p.noScope("goes")
	p.quiet()
}
