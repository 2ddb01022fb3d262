package server_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// base is a cluster that belongs to no Service.
func base() envoy.Resource { return cluster("base", "") }

// bare returns a sidecar that has what it gets before any call if nothing is preloaded: the base cluster and all scopes.
func bare(t *testing.T, c *control, n *corev3.Node, scopes ...string) *proxy {
	t.Helper()
	p := c.connect(t, n)
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base")
	p.subscribe(envoy.ScopedRouteType)
	if got := variants(t, p.take(envoy.ScopedRouteType, scopes...)); !slices.Equal(got, scopes) {
		t.Fatalf("got scopes %q, want all on demand: %q", got, scopes)
	}
	return p
}

func TestNothingAhead(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base(), listener("out")}, service("shop", "a"), service("bank", "b"))...)
	p := bare(t, c, pod("one", "n1"), "a", "b")
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType, "out")
	p.quiet()

	p.subscribe(envoy.RouteType, "b")
	clusters := p.expect(envoy.ClusterType, "b")
	p.quiet() // the route waits for the cluster's acknowledgement …
	p.ack(clusters)
	p.quiet() // … and for its endpoints
	p.subscribe(envoy.EndpointType, "b")
	eps := p.expect(envoy.EndpointType, "b")
	p.quiet()
	p.ack(eps)
	p.take(envoy.RouteType, "b")
	p.quiet()
}

func TestAhead(t *testing.T) {
	in := func(mutate func(*node.Node)) *corev3.Node {
		n := node.Node{Namespace: "shop", Pod: "two", ServiceAccount: "default", Workload: "Deployment/web"}
		if mutate != nil {
			mutate(&n)
		}
		return n.Proto()
	}
	scope := func(s string) *corev3.Node { return in(func(n *node.Node) { n.ConfigScope = s }) }
	shop, all := []string{"base", "cart", "pay"}, []string{"base", "cart", "pay", "rates", "vault"}
	shopScopes := []string{"cart ahead", "pay ahead", "rates", "vault"}
	allScopes := []string{"cart ahead", "pay ahead", "rates ahead", "vault ahead"}
	none, noneScopes := []string{"base"}, []string{"cart", "pay", "rates", "vault"}
	for name, test := range map[string]struct {
		ahead server.PreloadBounds
		node  *corev3.Node
		// used are routes and clusters that another pod of shop/Deployment/web has asked for.
		used                     []envoy.ID
		wantClusters, wantScopes []string
	}{
		"nothing":                     {server.PreloadBounds{}, in(nil), nil, none, noneScopes},
		"small mesh":                  {server.PreloadBounds{WholeMesh: 4}, in(nil), nil, all, allScopes},
		"too large a mesh":            {server.PreloadBounds{WholeMesh: 3}, in(nil), nil, none, noneScopes},
		"small namespace":             {server.PreloadBounds{Namespace: 2}, in(nil), nil, shop, shopScopes},
		"too large a namespace":       {server.PreloadBounds{Namespace: 1}, in(nil), nil, none, noneScopes},
		"small mesh, large namespace": {server.PreloadBounds{WholeMesh: 4, Namespace: 1}, in(nil), nil, all, allScopes},
		"scope all":                   {server.PreloadBounds{}, scope(config.ScopeAll), nil, all, allScopes},
		"scope namespace":             {server.PreloadBounds{}, scope(config.ScopeNamespace), nil, shop, shopScopes},
		"scope namespace, small mesh": {server.PreloadBounds{WholeMesh: 4}, scope(config.ScopeNamespace), nil, shop, shopScopes},
		"scope demand":                {server.PreloadBounds{WholeMesh: 4, Namespace: 2}, scope(config.ScopeDemand), nil, none, noneScopes},
		"used route": {
			server.PreloadBounds{}, in(nil), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}},
			[]string{"base", "rates"}, []string{"cart", "pay", "rates ahead", "vault"},
		},
		"used cluster": {
			server.PreloadBounds{}, in(nil), []envoy.ID{{Type: envoy.ClusterType, Name: "rates"}},
			[]string{"base", "rates"}, noneScopes,
		},
		"used and the namespace": {
			server.PreloadBounds{Namespace: 2}, in(nil), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}},
			[]string{"base", "cart", "pay", "rates"}, []string{"cart ahead", "pay ahead", "rates ahead", "vault"},
		},
		"used and scope namespace": {
			server.PreloadBounds{}, scope(config.ScopeNamespace), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}},
			[]string{"base", "cart", "pay", "rates"}, []string{"cart ahead", "pay ahead", "rates ahead", "vault"},
		},
		"used but scope demand": {
			server.PreloadBounds{}, scope(config.ScopeDemand), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}}, none, noneScopes,
		},
		"used by another workload": {
			server.PreloadBounds{}, in(func(n *node.Node) { n.Workload = "Deployment/other" }),
			[]envoy.ID{{Type: envoy.RouteType, Name: "rates"}}, none, noneScopes,
		},
		"used by a namesake elsewhere": {
			server.PreloadBounds{}, in(func(n *node.Node) { n.Namespace = "bank" }),
			[]envoy.ID{{Type: envoy.RouteType, Name: "cart"}}, none, noneScopes,
		},
		"used by nobody's workload": {
			server.PreloadBounds{}, in(func(n *node.Node) { n.Workload = "" }),
			[]envoy.ID{{Type: envoy.RouteType, Name: "rates"}}, none, noneScopes,
		},
		"used but not there": {
			server.PreloadBounds{}, in(nil), []envoy.ID{{Type: envoy.RouteType, Name: "gone"}}, none, noneScopes,
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := startWith(t, server.Options{Preload: test.ahead})
			c.set(t, slices.Concat([]envoy.Resource{base()},
				service("shop", "cart"), service("shop", "pay"), service("bank", "rates"), service("bank", "vault"),
				lazy(append(service("shop", "lazy"), service("bank", "late")...)...))...)
			c.remove(t, endpoints("lazy", 0), endpoints("late", 0)) // not counted as ports

			other := c.connect(t, node.Node{Namespace: "shop", Pod: "one", ServiceAccount: "default", Workload: "Deployment/web"}.Proto())
			for _, id := range test.used {
				other.subscribe(id.Type, id.Name)
				other.next(id.Type) // so it is noted
			}

			p := c.connect(t, test.node)
			p.subscribe(envoy.ClusterType)
			clusters := p.expect(envoy.ClusterType, test.wantClusters...)
			if names := test.wantClusters[1:]; len(names) > 0 {
				p.subscribe(envoy.EndpointType, names...)
				p.take(envoy.EndpointType, names...)
			}
			p.ack(clusters)
			p.subscribe(envoy.ScopedRouteType)
			if got := variants(t, p.next(envoy.ScopedRouteType)); !slices.Equal(got, test.wantScopes) {
				t.Errorf("got scopes %q, want %q", got, test.wantScopes)
			}
		})
	}
}

func TestNewService(t *testing.T) {
	for name, test := range map[string]struct {
		ahead server.PreloadBounds
		node  *corev3.Node
		want  string // the variant of the scope
	}{
		"small mesh":                {server.PreloadBounds{WholeMesh: 2}, pod("one", "n1"), "b ahead"},
		"one port too many":         {server.PreloadBounds{WholeMesh: 1}, pod("one", "n1"), "b"},
		"large mesh, the proxy's":   {server.PreloadBounds{Namespace: 1}, node.Node{Namespace: "bank", Pod: "one", ServiceAccount: "default"}.Proto(), "b ahead"},
		"large mesh, another's own": {server.PreloadBounds{Namespace: 1}, node.Node{Namespace: "web", Pod: "one", ServiceAccount: "default"}.Proto(), "b"},
	} {
		t.Run(name, func(t *testing.T) {
			c := startWith(t, server.Options{Preload: test.ahead})
			c.set(t, base())
			p := bare(t, c, test.node)
			// The proxy has a Service of its own accord that nobody is sent ahead.
			c.set(t, in("shop", endpoints("a", 0))...)

			c.set(t, service("bank", "b")...)
			if test.want == "b ahead" {
				p.warm("b")
			}
			if got := variants(t, p.take(envoy.ScopedRouteType, "b")); !slices.Equal(got, []string{test.want}) {
				t.Errorf("got %q, want %q", got, test.want)
			}
			p.quiet()
		})
	}
}

// The protocol of a port is changed, and what was of no use is now the form that is used.
func TestNoLongerLazyIsNew(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, append(lazy(service("shop", "a")...), base())...)
	p := bare(t, c, pod("one", "n1"))
	c.set(t, service("shop", "a")...)
	p.warm("a")
	if got := variants(t, p.take(envoy.ScopedRouteType, "a")); !slices.Equal(got, []string{"a ahead"}) {
		t.Errorf("got %q", got)
	}
}

func TestNamesThatDoNotExist(t *testing.T) {
	named := []string{envoy.RouteType, envoy.ClusterType, envoy.EndpointType}
	t.Run("a client that subscribes to names only", func(t *testing.T) {
		c := start(t)
		p := c.connect(t, pod("one", "n1"))
		for _, typeURL := range named {
			p.subscribe(typeURL, "a")
			p.take(typeURL, "-a")
		}
		c.set(t, service("shop", "a")...)
		p.takeEach("a", named...)
		c.remove(t, service("shop", "a")...)
		p.takeEach("-a", named...)
		p.quiet()
	})
	t.Run("a sidecar", func(t *testing.T) {
		c := start(t)
		c.set(t, base())
		p := bare(t, c, pod("one", "n1"))
		p.subscribe(envoy.RouteType, "a")
		noRoutes(t, p, "a")
		p.subscribe(envoy.ClusterType, "a")
		noEndpoints(t, p, "a")
		p.quiet()

		// Then there is such a Service. Its route waits for its cluster.
		c.set(t, service("shop", "a")...)
		p.warm("a")
		p.takeEach("a", envoy.RouteType, envoy.ScopedRouteType)
		p.quiet()

		// And then there is not. The cluster has been asked for by name, so it is not removed.
		c.remove(t, service("shop", "a")...)
		noEndpoints(t, p, "a")
		noRoutes(t, p, "a")
		p.take(envoy.ScopedRouteType, "-a")
		p.take(envoy.EndpointType, "-a")
		p.quiet()
	})
}

func noRoutes(t *testing.T, p *proxy, name string) {
	t.Helper()
	if got := only(t, p.take(envoy.RouteType, name), &routev3.RouteConfiguration{}); len(got.VirtualHosts) > 0 {
		t.Errorf("got %v, want no routes", got)
	}
}

func noEndpoints(t *testing.T, p *proxy, name string) {
	t.Helper()
	got := only(t, p.take(envoy.ClusterType, name), &clusterv3.Cluster{})
	if got.GetType() != clusterv3.Cluster_STATIC || got.EdsClusterConfig != nil || got.LoadAssignment != nil {
		t.Errorf("got %v, want a static cluster without endpoints", got)
	}
}

func TestLazyScope(t *testing.T) {
	c := start(t)
	c.set(t, append(service("shop", "a"), base())...)
	has := bare(t, c, pod("has", "n1"), "a")
	held := map[string]string{"a": c.version(t, envoy.ScopedRouteType, "a")}

	c.set(t, lazy(in("shop", scopes("a")...)...)...)
	has.quiet()
	hasNot := bare(t, c, pod("has-not", "n1"))
	hasNot.quiet()

	again := c.connect(t, pod("has", "n1"))
	again.resume(envoy.ScopedRouteType, held)
	again.quiet()
	c.set(t, append(in("shop", scopes("b")...), lazy(in("shop", scopes("c")...)...)...)...)
	for _, p := range []*proxy{has, hasNot, again} {
		p.take(envoy.ScopedRouteType, "b")
		p.quiet()
	}
	behind := c.connect(t, pod("has", "n1"))
	behind.resume(envoy.ScopedRouteType, map[string]string{"a": "older", "b": "older"})
	behind.take(envoy.ScopedRouteType, "a", "b") // what it holds is kept up to date

	// No longer lazy, and then gone.
	c.set(t, in("shop", scopes("a")...)...)
	hasNot.take(envoy.ScopedRouteType, "a")
	c.remove(t, scopes("a")...)
	hasNot.take(envoy.ScopedRouteType, "-a")
}

// A sidecar asks at once for the routes of what it is sent ahead. Were that taken for calls, its workload
// would be sent all of that for ever, whatever the bounds.
func TestSentAheadIsNotUsed(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 3}})
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("x", "a"), service("x", "b"), service("x", "c"))...)
	begin := func(name string, want ...string) *proxy {
		t.Helper()
		var ahead []string
		for _, scope := range want {
			if name, ok := strings.CutSuffix(scope, " ahead"); ok {
				ahead = append(ahead, name)
			}
		}
		p := c.connect(t, node.Node{Namespace: "shop", Pod: name, ServiceAccount: "default", Workload: "Deployment/web"}.Proto())
		p.subscribe(envoy.ClusterType)
		clusters := p.expect(envoy.ClusterType, slices.Sorted(slices.Values(append([]string{"base"}, ahead...)))...)
		if len(ahead) > 0 {
			p.subscribe(envoy.EndpointType, ahead...)
			p.take(envoy.EndpointType, ahead...)
		}
		p.ack(clusters)
		p.subscribe(envoy.ScopedRouteType)
		scopes := p.next(envoy.ScopedRouteType)
		if got := variants(t, scopes); !slices.Equal(got, want) {
			t.Fatalf("%s: got scopes %q, want %q", name, got, want)
		}
		if len(ahead) > 0 {
			p.subscribe(envoy.RouteType, ahead...)
			p.take(envoy.RouteType, ahead...)
		}
		p.ack(scopes)
		return p
	}
	begin("one", "a ahead", "b ahead", "c ahead")
	c.set(t, service("x", "d")...) // one too many
	two := begin("two", "a", "b", "c", "d")
	two.subscribe(envoy.RouteType, "b") // which is a call
	two.warm("b")
	two.take(envoy.RouteType, "b")
	begin("three", "a", "b ahead", "c", "d")
}

// The scope of a new Service waits for the clusters that are on their way, not for all that come meanwhile.
func TestFirstCallsHoldUpNoScope(t *testing.T) {
	c := start(t)
	var called []string
	all := []envoy.Resource{base()}
	for i := range 12 {
		called = append(called, fmt.Sprintf("s%02d", i))
		all = append(all, service("shop", called[i])...)
	}
	c.set(t, all...)
	p := bare(t, c, pod("one", "n1"), called...)
	p.subscribe(envoy.RouteType, called[0])
	for calls := 1; ; {
		switch res := p.response("the scope of the new Service"); res.TypeUrl {
		case envoy.ScopedRouteType:
			if got := content(res); !slices.Equal(got, []string{"new"}) {
				t.Fatalf("got scopes %q", got)
			}
			return
		case envoy.ClusterType:
			if calls == len(called) {
				t.Fatalf("no scope while %d Services were called for the first time", calls)
			}
			if calls == 3 {
				c.set(t, service("shop", "new")...)
			}
			// The next call comes before the clusters of this one are there.
			p.subscribe(envoy.RouteType, called[calls])
			calls++
			p.subscribe(envoy.EndpointType, content(res)...)
			p.ack(res)
		default:
			p.ack(res)
		}
	}
}
