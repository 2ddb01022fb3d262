package server_test

import (
	"slices"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// longResume is longer than a busy machine needs to read what a proxy that comes back lists.
const longResume = 5 * time.Second

func TestReconnect(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, slices.Concat([]envoy.Resource{base(), listener("out")}, service("shop", "a"), service("shop", "b"), service("bank", "c"))...)
	first := bare(t, c, pod("one", "n1"))
	// held is what a sidecar has that once called a, and has been sent b ahead.
	version := func(typeURL, name string) string { return c.version(t, typeURL, name) }
	clusters := map[string]string{
		"base": version(envoy.ClusterType, "base"), "a": version(envoy.ClusterType, "a"), "b": version(envoy.ClusterType, "b"),
	}
	scopes := map[string]string{}
	for _, name := range []string{"a", "ask", "b"} {
		scopes[name] = server.ScopeVersion(name)
	}
	eps := map[string]string{"a": version(envoy.EndpointType, "a"), "b": version(envoy.EndpointType, "b")}
	routes := map[string]string{"a": version(envoy.RouteType, "a"), "b": version(envoy.RouteType, "b")}
	listeners := map[string]string{"out": version(envoy.ListenerType, "out")}
	resume := func(name string) *proxy {
		p := c.connect(t, pod(name, "n1"))
		p.resume(envoy.ClusterType, clusters, "*", envoy.Demand("a"))
		p.resume(envoy.ListenerType, listeners)
		p.resume(envoy.ScopedRouteType, scopes)
		p.resume(envoy.RouteType, routes, "a", "b")
		p.resume(envoy.EndpointType, eps, "a", "b")
		return p
	}

	p := resume("same")
	p.answer("a")
	p.quiet()
	// Nobody on this stream has asked for cluster b, but the proxy holds it.
	c.set(t, in("shop", clusterWith("b", "b", "changed"))...)
	changed := p.expect(envoy.ClusterType, "b")
	p.take(envoy.EndpointType, "b")
	p.ack(changed)
	p.quiet()
	first.quiet() // which does not
	p.close()

	// Both Services go while the proxy is away, Service d comes, and so does a listener. The scope that the proxy has asked for
	// stays.
	c.apply(t, envoy.Change{Set: append(service("bank", "d"), listener("new")), Remove: ids(append(service("shop", "a"), service("shop", "b")...))})
	p = resume("later")
	p.take(envoy.ListenerType, "new")
	p.take(envoy.RouteType, "a", "b") // when the time is over
	p.noScope("b")
	p.answer("a")
	p.take(envoy.ClusterType, "-a", "-b")
	p.take(envoy.EndpointType, "-a", "-b")
	p.quiet()
}

// Listeners wait until the sidecar has listed its scopes: those that are missing are sent before.
func TestListenersWaitForTheScopesAfterReconnect(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, slices.Concat([]envoy.Resource{base(), listener("new")}, service("", "a"))...)
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, map[string]string{"base": c.version(t, envoy.ClusterType, "base"), "a": c.version(t, envoy.ClusterType, "a")})
	p.resume(envoy.ListenerType, map[string]string{"out": "1"})
	p.quiet()
	p.resume(envoy.ScopedRouteType, map[string]string{"ask": server.ScopeVersion("ask")})
	scopes := p.expect(envoy.ScopedRouteType, "a")
	p.quiet()
	p.ack(scopes)
	p.take(envoy.ListenerType, "new")
	p.quiet()
}

// A proxy that comes back speaks of one type after the other. What it has not spoken of yet may refer to
// what is gone.
func TestRemovalsAfterReconnectAreInOrder(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("bank", "b"))...)
	held := map[string]map[string]string{}
	for _, typeURL := range []string{envoy.ClusterType, envoy.EndpointType, envoy.RouteType} {
		held[typeURL] = map[string]string{"a": c.version(t, typeURL, "a")}
	}
	held[envoy.ClusterType]["base"] = c.version(t, envoy.ClusterType, "base")
	held[envoy.ScopedRouteType] = map[string]string{"a": server.ScopeVersion("a"), "ask": server.ScopeVersion("ask")}
	// Route a moves on to cluster b while the proxy is away, and cluster a goes.
	c.apply(t, envoy.Change{Set: in("shop", routeTo("a", "b")), Remove: []envoy.ID{{Type: envoy.ClusterType, Name: "a"}}})

	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, held[envoy.ClusterType])
	p.quiet()
	p.resume(envoy.ScopedRouteType, held[envoy.ScopedRouteType])
	p.resume(envoy.RouteType, held[envoy.RouteType], "a")
	p.resume(envoy.EndpointType, held[envoy.EndpointType], "a")
	p.warm("b")
	p.take(envoy.RouteType, "a")
	p.take(envoy.ClusterType, "-a")
}

// A cluster that a proxy brings along is gone at that moment, and is back before the proxy is told.
func TestHeldClusterComesBack(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, base())
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, map[string]string{"base": "older", "a": "older"})
	first := p.expect(envoy.ClusterType, "base")
	c.set(t, in("shop", cluster("a", "a"))...)
	p.ack(first)
	p.take(envoy.ClusterType, "a")
}

// The replica that a proxy comes to may be a moment behind the one that it comes from.
func TestHeldServiceIsNotThereYet(t *testing.T) {
	t.Parallel()
	resume := func(t *testing.T, held time.Duration) (*control, *proxy) {
		c := start(t)
		c.ResumeFor(held)
		c.set(t, base())
		p := c.connect(t, pod("one", "n1"))
		p.resume(envoy.ClusterType, map[string]string{"base": c.version(t, envoy.ClusterType, "base"), "a": "newer"})
		p.resume(envoy.ScopedRouteType, map[string]string{"a": server.ScopeVersion("a"), "ask": server.ScopeVersion("ask")})
		p.resume(envoy.RouteType, map[string]string{"a": "newer"}, "a")
		return c, p
	}
	t.Run("and comes", func(t *testing.T) {
		t.Parallel()
		c, p := resume(t, longResume)
		p.quiet()
		c.set(t, service("shop", "a")...)
		p.warm("a")
		p.take(envoy.RouteType, "a")
		p.quiet()
	})
	t.Run("and does not come", func(t *testing.T) {
		t.Parallel()
		began := time.Now()
		_, p := resume(t, server.ResumeTime)
		noRoutes(t, p, "a")
		if after := time.Since(began); after < server.ResumeTime {
			t.Errorf("told that there is no route after %v, want %v at least", after, server.ResumeTime)
		}
		p.noScope("a")
		p.take(envoy.ClusterType, "-a")
		p.quiet()
	})
}
