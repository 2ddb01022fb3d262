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
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"), service("shop", "b"), service("bank", "c"))...)
	both := scopes("b")
	first := bare(t, c, pod("one", "n1"), "a", "b", "c")
	// held is what a sidecar has that once called a and b, and has been sent the scope of b ahead.
	version := func(typeURL, name string) string { return c.version(t, typeURL, name) }
	clusters := map[string]string{
		"base": version(envoy.ClusterType, "base"), "a": version(envoy.ClusterType, "a"), "b": version(envoy.ClusterType, "b"),
	}
	scopes := map[string]string{
		"a": version(envoy.ScopedRouteType, "a"), "b": version(envoy.ScopedRouteType, "b (ahead)"), "c": version(envoy.ScopedRouteType, "c"),
	}
	eps := map[string]string{"a": version(envoy.EndpointType, "a"), "b": version(envoy.EndpointType, "b")}
	routes := map[string]string{"a": version(envoy.RouteType, "a")}
	resume := func(name string) *proxy {
		p := c.connect(t, pod(name, "n1"))
		p.resume(envoy.ClusterType, clusters)
		p.resume(envoy.ScopedRouteType, scopes)
		p.resume(envoy.RouteType, routes, "a")
		p.resume(envoy.EndpointType, eps, "a", "b")
		return p
	}

	p := resume("same")
	p.quiet()
	// Nobody on this stream has asked for cluster b, but the proxy holds it.
	c.set(t, in("shop", clusterWith("b", "b", "changed"))...)
	changed := p.expect(envoy.ClusterType, "b")
	p.take(envoy.EndpointType, "b")
	p.ack(changed)
	p.quiet()
	first.quiet() // which does not
	p.close()

	// The scope of b goes while the proxy is away, and Service d comes.
	c.apply(t, envoy.Change{Set: service("bank", "d"), Remove: ids(both)})
	p = resume("later")
	p.take(envoy.ClusterType, "b") // changed above
	p.take(envoy.EndpointType, "b")
	p.take(envoy.ScopedRouteType, "d")
	p.take(envoy.ScopedRouteType, "-b")
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
	for _, typeURL := range []string{envoy.ClusterType, envoy.EndpointType, envoy.ScopedRouteType, envoy.RouteType} {
		held[typeURL] = map[string]string{"a": c.version(t, typeURL, "a")}
	}
	held[envoy.ClusterType]["base"] = c.version(t, envoy.ClusterType, "base")
	held[envoy.ScopedRouteType]["b"] = c.version(t, envoy.ScopedRouteType, "b")
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
		p.resume(envoy.ScopedRouteType, map[string]string{"a": "newer"})
		p.resume(envoy.RouteType, map[string]string{"a": "newer"}, "a")
		return c, p
	}
	t.Run("and comes", func(t *testing.T) {
		t.Parallel()
		c, p := resume(t, longResume)
		p.quiet()
		c.set(t, service("shop", "a")...)
		p.warm("a")
		p.takeEach("a", envoy.RouteType, envoy.ScopedRouteType)
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
		p.take(envoy.ScopedRouteType, "-a")
		p.take(envoy.ClusterType, "-a")
		p.quiet()
	})
}
