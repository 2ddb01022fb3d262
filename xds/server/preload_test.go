package server_test

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

func TestNothingAhead(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base(), listener("out")}, service("shop", "a"), service("bank", "b"))...)
	p := bare(t, c, pod("one", "n1"))
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType, "out")
	p.quiet()

	// The first call to b. Its clusters come with its scope, before the proxy asks for routes.
	p.subscribe(envoy.ClusterType, envoy.Demand("b"))
	clusters := p.expect(envoy.ClusterType, "b")
	p.scope("b")
	p.quiet() // the routes wait for the cluster's acknowledgement …
	p.ack(clusters)
	p.quiet() // … and for its endpoints
	p.subscribe(envoy.EndpointType, "b")
	eps := p.expect(envoy.EndpointType, "b")
	p.quiet()
	p.ack(eps)
	p.take(envoy.RouteType, "b")
	p.answer("b")
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
	shopScopes, allScopes := []string{"ask", "cart", "pay"}, []string{"ask", "cart", "pay", "rates", "vault"}
	none, noneScopes := []string{"base"}, []string{"ask"}
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
			[]string{"base", "rates"}, []string{"ask", "rates"},
		},
		"used cluster": {
			server.PreloadBounds{}, in(nil), []envoy.ID{{Type: envoy.ClusterType, Name: "rates"}},
			[]string{"base", "rates"}, noneScopes,
		},
		"used and the namespace": {
			server.PreloadBounds{Namespace: 2}, in(nil), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}},
			[]string{"base", "cart", "pay", "rates"}, []string{"ask", "cart", "pay", "rates"},
		},
		"used and scope namespace": {
			server.PreloadBounds{}, scope(config.ScopeNamespace), []envoy.ID{{Type: envoy.RouteType, Name: "rates"}},
			[]string{"base", "cart", "pay", "rates"}, []string{"ask", "cart", "pay", "rates"},
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
			p.take(envoy.ScopedRouteType, test.wantScopes...)
			p.quiet()
		})
	}
}

// A new Service comes to the proxies to which it is preloaded, with its scope, so that the first call waits for nothing.
func TestNewService(t *testing.T) {
	for name, test := range map[string]struct {
		ahead server.PreloadBounds
		node  *corev3.Node
		comes bool
	}{
		"small mesh":                {server.PreloadBounds{WholeMesh: 2}, pod("one", "n1"), true},
		"one port too many":         {server.PreloadBounds{WholeMesh: 1}, pod("one", "n1"), false},
		"large mesh, the proxy's":   {server.PreloadBounds{Namespace: 1}, node.Node{Namespace: "bank", Pod: "one", ServiceAccount: "default"}.Proto(), true},
		"large mesh, another's own": {server.PreloadBounds{Namespace: 1}, node.Node{Namespace: "web", Pod: "one", ServiceAccount: "default"}.Proto(), false},
	} {
		t.Run(name, func(t *testing.T) {
			c := startWith(t, server.Options{Preload: test.ahead})
			c.set(t, base())
			p := bare(t, c, test.node)
			// The proxy has a Service of its own accord that nobody is sent ahead.
			c.set(t, in("shop", endpoints("a", 0))...)

			c.set(t, service("bank", "b")...)
			if test.comes {
				p.pushed("b")
			}
			p.quiet()
		})
	}
}

// pushed takes a Service that is preloaded, which comes while the proxy is connected.
func (p *proxy) pushed(name string) {
	p.t.Helper()
	cold := p.expect(envoy.ClusterType, name)
	p.scope(name)
	p.subscribe(envoy.EndpointType, name)
	p.take(envoy.EndpointType, name)
	p.ack(cold)
	p.take(envoy.RouteType, name)
}

// A preloaded scope goes with its routes, and comes back with them. Where it is asked for in between, it stays.
func TestPreloadedScopeGoes(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	for range 2 {
		c.set(t, service("shop", "a")...)
		p.pushed("a")
		p.quiet()
		c.remove(t, service("shop", "a")...)
		noRoutes(t, p, "a")
		p.noScope("a")
		p.take(envoy.ClusterType, "-a")
		p.take(envoy.EndpointType, "-a")
		p.unsubscribe(envoy.EndpointType, "a")
		p.quiet()
	}
	p.call("a")
	c.set(t, service("shop", "a")...)
	p.warm("a")
	p.take(envoy.RouteType, "a")
	p.quiet()
	c.remove(t, service("shop", "a")...)
	noRoutes(t, p, "a")
	p.take(envoy.ClusterType, "-a")
	p.take(envoy.EndpointType, "-a")
	p.quiet()
}

// The protocol of a port is changed, and what was of no use is now the form that is used.
func TestNoLongerLazyIsNew(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.set(t, append(lazy(service("shop", "a")...), base())...)
	p := bare(t, c, pod("one", "n1"))
	c.set(t, service("shop", "a")...)
	p.pushed("a")
	p.quiet()
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
		p.subscribe(envoy.ClusterType, envoy.Demand("a"))
		p.scope("a")
		noRoutes(t, p, "a")
		p.answer("a")
		p.subscribe(envoy.ClusterType, "a")
		noEndpoints(t, p, "a")
		p.quiet()

		// Then there is such a Service. Its routes wait for its cluster. The sidecar does not ask for them again.
		c.set(t, service("shop", "a")...)
		p.warm("a")
		p.take(envoy.RouteType, "a")
		p.quiet()

		// And then there is not. The cluster has been asked for by name, and the scope by a call, so neither is removed.
		c.remove(t, service("shop", "a")...)
		noEndpoints(t, p, "a")
		noRoutes(t, p, "a")
		p.take(envoy.EndpointType, "-a")
		p.quiet()
	})
}

// The protocol of a port is changed to one that needs no scope. Who has the scope keeps it, also after it comes back, and
// others do not get it.
func TestLazyScope(t *testing.T) {
	t.Parallel()
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 1}})
	c.ResumeFor(longResume)
	c.set(t, append(service("shop", "a"), base())...)
	has := c.connect(t, pod("has", "n1"))
	has.subscribe(envoy.ClusterType)
	cold := has.expect(envoy.ClusterType, "a", "base")
	has.subscribe(envoy.EndpointType, "a")
	has.take(envoy.EndpointType, "a")
	has.ack(cold)
	has.subscribe(envoy.ScopedRouteType)
	has.take(envoy.ScopedRouteType, "a", "ask")
	has.subscribe(envoy.RouteType, "a")
	has.take(envoy.RouteType, "a")
	held := func(typeURL string) map[string]string { return map[string]string{"a": c.version(t, typeURL, "a")} }
	again := func() *proxy {
		p := c.connect(t, pod("has", "n1"))
		p.resume(envoy.ClusterType, map[string]string{"a": c.version(t, envoy.ClusterType, "a"), "base": c.version(t, envoy.ClusterType, "base")})
		p.resume(envoy.ScopedRouteType, map[string]string{"a": server.ScopeVersion("a"), "ask": server.ScopeVersion("ask")})
		p.resume(envoy.RouteType, held(envoy.RouteType), "a")
		p.resume(envoy.EndpointType, held(envoy.EndpointType), "a")
		return p
	}

	tcp := lazy(in("shop", cluster("a", "a"), routeTo("a", "a"))...)
	c.set(t, tcp...)
	has.quiet()
	hasNot := bare(t, c, pod("has-not", "n1"))
	hasNot.quiet()
	back := again()
	back.quiet()

	// It goes, and comes back as it was at first. The one that has come back removes nothing yet.
	c.remove(t, tcp...)
	noRoutes(t, has, "a")
	has.noScope("a")
	has.take(envoy.ClusterType, "-a")
	c.set(t, service("shop", "a")...)
	hasNot.pushed("a")
	back.quiet()
}

// A sidecar asks at once for the routes of what it is sent ahead. Were that taken for calls, its workload
// would be sent all of that for ever, whatever the bounds.
func TestSentAheadIsNotUsed(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 3}})
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("x", "a"), service("x", "b"), service("x", "c"))...)
	begin := func(name string, ahead ...string) *proxy {
		t.Helper()
		p := c.connect(t, node.Node{Namespace: "shop", Pod: name, ServiceAccount: "default", Workload: "Deployment/web"}.Proto())
		p.subscribe(envoy.ClusterType)
		clusters := p.expect(envoy.ClusterType, slices.Sorted(slices.Values(append([]string{"base"}, ahead...)))...)
		if len(ahead) > 0 {
			p.subscribe(envoy.EndpointType, ahead...)
			p.take(envoy.EndpointType, ahead...)
		}
		p.ack(clusters)
		p.subscribe(envoy.ScopedRouteType)
		scopes := p.expect(envoy.ScopedRouteType, slices.Sorted(slices.Values(append([]string{"ask"}, ahead...)))...)
		if len(ahead) > 0 {
			p.subscribe(envoy.RouteType, ahead...)
			p.take(envoy.RouteType, ahead...)
		}
		p.ack(scopes)
		return p
	}
	begin("one", "a", "b", "c")
	c.set(t, service("x", "d")...) // one too many
	two := begin("two")
	two.call("b", "b")
	begin("three", "b")
}
