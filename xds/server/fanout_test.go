package server_test

import (
	"fmt"
	"slices"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

func TestEndpointsReachOnlySubscribers(t *testing.T) {
	c := start(t)
	c.set(t, append(slices.Concat(service("shop", "a"), service("shop", "b")), base())...)
	calls := func(name string, services ...string) *proxy {
		p := bare(t, c, pod(name, "n1"), "a", "b")
		for _, s := range services {
			p.subscribe(envoy.RouteType, s)
			p.warm(s)
			p.take(envoy.RouteType, s)
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
		p.subscribe(envoy.ClusterType)
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

// What is asked for and given back again and again leaves nothing behind, on a stream that goes on.
func TestNothingIsKeptOfAnOldSubscription(t *testing.T) {
	c := start(t)
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	names, _ := c.store.Watched()
	for i := range 100 {
		name := fmt.Sprint("s", i)
		p.subscribe(envoy.RouteType, name)
		p.take(envoy.RouteType, name)
		p.unsubscribe(envoy.RouteType, name)
		p.quiet()
		c.set(t, service("shop", name)...)
		p.take(envoy.ScopedRouteType, name)
		p.subscribe(envoy.RouteType, name)
		p.warm(name)
		p.take(envoy.RouteType, name)
		p.quiet()
		c.remove(t, service("shop", name)...)
		noRoutes(t, p, name)
		gone := p.expect(envoy.ScopedRouteType, "-"+name)
		p.unsubscribe(envoy.RouteType, name)
		p.ack(gone)
		p.take(envoy.ClusterType, "-"+name)
		p.take(envoy.EndpointType, "-"+name)
		p.unsubscribe(envoy.EndpointType, name)
	}
	await(t, "as much watched as before", func() bool { now, _ := c.store.Watched(); return now == names })
}

func many(n int, name string) []envoy.Resource {
	out := make([]envoy.Resource, n)
	for i := range out {
		out[i] = scope(fmt.Sprintf("%s-%05d", name, i))
	}
	return out
}

func TestLogIsBounded(t *testing.T) {
	const most = 2 * (1000 + server.MaxGone)
	for name, round := range map[string]func(c *control, i int){
		"changes": func(c *control, i int) { c.set(t, scopes(fmt.Sprint("s", i%10))[i/10%2]) },
		"new names, one at a time": func(c *control, i int) {
			name := scope(fmt.Sprint("s", i))
			c.set(t, name)
			c.remove(t, name)
		},
		"many at once": func(c *control, i int) {
			if i%50 == 0 {
				batch := many(1000, fmt.Sprint(i))
				c.set(t, batch...)
				c.remove(t, batch...)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := start(t)
			for i := range 8000 {
				round(c, i)
				if items, names := c.store.Logged(envoy.ScopedRouteType); items > most || names > most {
					t.Fatalf("round %d: %d items and %d names in the log, want %d at most", i, items, names, most)
				}
			}
		})
	}
}

// A proxy starts again if it was so slow that the store has forgotten what it must remove.
func TestTooFarBehind(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.set(t, base(), scope("stays"), scope("goes"))
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base")
	p.subscribe(envoy.ScopedRouteType)
	held := versions(p.take(envoy.ScopedRouteType, "goes", "stays"))

	c.set(t, clusterWith("base", "", "changed"))
	late := p.expect(envoy.ClusterType, "base") // scopes wait for its acknowledgement
	c.remove(t, scope("goes"))
	for i := range 2*server.MaxGone/1000 + 2 {
		batch := many(1000, fmt.Sprint(i))
		c.set(t, batch...)
		c.remove(t, batch...)
	}
	p.ack(late)
	if code := p.ended(); code != codes.Aborted {
		t.Fatalf("ended with %v: %v", code, p.err)
	}

	again := c.connect(t, pod("one", "n1"))
	again.resume(envoy.ScopedRouteType, held)
	again.take(envoy.ScopedRouteType, "-goes")
	c.set(t, scope("new"))
	again.take(envoy.ScopedRouteType, "new")
	again.quiet()
}
