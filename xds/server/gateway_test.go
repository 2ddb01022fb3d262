package server_test

import (
	"slices"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// gatewayPod is the node of a Gateway's pod, with a service account of the same name.
func gatewayPod(name string) *corev3.Node {
	return node.Node{Namespace: "shop", Pod: name + "-1", ServiceAccount: name, Version: "test", Gateway: true}.Proto()
}

// owned gives resources to a gateway.
func owned(owner string, resources ...envoy.Resource) []envoy.Resource {
	for i := range resources {
		resources[i].Owner = owner
	}
	return resources
}

func secret(name, key string) envoy.Resource {
	return envoy.Resource{Type: envoy.SecretType, Name: name, Lazy: true, Message: &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{PrivateKey: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: key}}},
	}}}
}

// listenerTo is a listener that passes connections on to a cluster.
func listenerTo(name, cluster string) envoy.Resource {
	l := listener(name)
	l.Clusters = []string{cluster}
	return l
}

// edge is a Gateway with all types of resources, whose owner is "shop/<name>".
func edge(name string) []envoy.Resource {
	return owned("shop/"+name, listenerTo(name, "tcp"), routeTo(name+"-routes", "web"), cluster(name+"-own", ""), secret(name+"-secret", "key"))
}

// A gateway gets what it owns, and the clusters that its listeners and routes name. It gets nothing of sidecars.
func TestGateway(t *testing.T) {
	c := startWith(t, server.Options{Classes: true, Preload: server.PreloadBounds{WholeMesh: 100, Namespace: 100}})
	c.set(t, slices.Concat(edge("one"), edge("two"), whole("base"), service("shop", "a"), []envoy.Resource{listener("out"), classed("open")},
		lazy(cluster("web", "a"), cluster("tcp", "")))...)
	p := c.connect(t, gatewayPod("one"))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "one-own")
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ClusterType, "tcp") // before the listener
	p.take(envoy.ListenerType, "one")
	p.subscribe(envoy.SecretType, "one-secret")
	p.take(envoy.SecretType, "one-secret")
	p.subscribe(envoy.RouteType, "one-routes")
	web := p.expect(envoy.ClusterType, "web") // before the routes
	p.subscribe(envoy.EndpointType, "a")
	p.take(envoy.EndpointType, "a")
	p.ack(web)
	p.take(envoy.RouteType, "one-routes")

	// What is new for sidecars and for another gateway does not come.
	c.set(t, slices.Concat(edge("three"), whole("other"), []envoy.Resource{listener("new"), classed("new")})...)
	c.set(t, owned("shop/one", listener("one-more"))...)
	p.take(envoy.ListenerType, "one-more")
	p.quiet()

	// The Gateway goes: first the listeners, the secrets last.
	c.remove(t, append(edge("one"), listener("one-more"))...)
	p.take(envoy.ListenerType, "-one", "-one-more")
	p.take(envoy.RouteType, "-one-routes")
	p.take(envoy.ClusterType, "-one-own")
	p.take(envoy.SecretType, "-one-secret")
}

// What belongs to a gateway does not exist for sidecars and other gateways, whatever name they ask for or bring along.
func TestOwnerAlone(t *testing.T) {
	c := startWith(t, server.Options{Preload: server.PreloadBounds{WholeMesh: 100, Namespace: 100}})
	c.set(t, append(slices.Concat(edge("one"), edge("two")), listener("out"), cluster("base", ""))...)
	// It says that it has the service account of the gateway, but not that it is one.
	account := node.Node{Namespace: "shop", Pod: "one-1", ServiceAccount: "one", Version: "test"}.Proto()
	sidecar, other := c.connect(t, account), c.connect(t, gatewayPod("two"))
	sidecar.subscribe(envoy.ClusterType)
	sidecar.take(envoy.ClusterType, "base")
	sidecar.subscribe(envoy.ListenerType)
	sidecar.take(envoy.ListenerType, "out")
	other.subscribe(envoy.ClusterType)
	other.take(envoy.ClusterType, "two-own")
	other.subscribe(envoy.ListenerType)
	other.take(envoy.ListenerType, "two")
	for _, p := range []*proxy{sidecar, other} {
		for _, typeURL := range []string{envoy.SecretType, envoy.RouteType, envoy.ListenerType} {
			name := map[string]string{envoy.SecretType: "one-secret", envoy.RouteType: "one-routes", envoy.ListenerType: "one"}[typeURL]
			p.subscribe(typeURL, name)
			p.take(typeURL, "-"+name)
		}
		p.subscribe(envoy.SecretType, "*")
		c.set(t, owned("shop/one", secret("one-secret", "new"), listenerTo("one", "base"))...)
		p.quiet()
		c.set(t, edge("one")...)
		p.quiet()
	}
	// Nor does it for one that has had it.
	again := c.connect(t, pod("two", "n"))
	again.resume(envoy.SecretType, map[string]string{"one-secret": c.version(t, envoy.SecretType, "one-secret")}, "one-secret")
	again.take(envoy.SecretType, "-one-secret")
	// The scope of a route configuration is a function of its name. Its routes are those of an address without a Service.
	scopes := c.connect(t, pod("three", "n"))
	scopes.subscribe(envoy.ScopedRouteType)
	scopes.take(envoy.ScopedRouteType, "ask")
	scopes.subscribe(envoy.ClusterType, "*", envoy.Demand("one-routes"))
	scopes.takeEach("base", envoy.ClusterType)
	scopes.take(envoy.ScopedRouteType, "one-routes")
	scopes.subscribe(envoy.RouteType, "one-routes")
	if res := scopes.take(envoy.RouteType, "one-routes"); res.Resources[0].Version == c.version(t, envoy.RouteType, "one-routes") {
		t.Error("a sidecar got the routes of a gateway")
	}
}

// A gateway whose listeners are not known yet waits for them: with an empty answer it would call itself ready.
func TestGatewayWithoutListeners(t *testing.T) {
	c := start(t)
	c.set(t, append(edge("two"), listener("out"), cluster("base", ""))...)
	p := c.connect(t, gatewayPod("one"))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType)
	p.subscribe(envoy.ListenerType)
	p.quiet()
	c.set(t, edge("one")...)
	p.take(envoy.ClusterType, "one-own")
	p.take(envoy.ListenerType, "one")
}

// A secret that changes is one message to its gateway. Others are not woken.
func TestSecretChanges(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat(edge("one"), edge("two"))...)
	one, two := c.connect(t, gatewayPod("one")), c.connect(t, gatewayPod("two"))
	for name, p := range map[string]*proxy{"one": one, "two": two} {
		p.subscribe(envoy.ListenerType)
		p.take(envoy.ListenerType, name)
		p.subscribe(envoy.SecretType, name+"-secret")
		p.take(envoy.SecretType, name+"-secret")
	}
	c.set(t, owned("shop/one", secret("one-secret", "rotated"))...)
	got := only(t, one.take(envoy.SecretType, "one-secret"), &tlsv3.Secret{})
	if key := got.GetTlsCertificate().PrivateKey.GetInlineString(); key != "rotated" {
		t.Errorf("key %q", key)
	}
	one.quiet()
	two.quiet()
}

// A gateway gets the variants of clusters that are its own, other gateways and sidecars the common form.
func TestClusterVariants(t *testing.T) {
	c := start(t)
	own := clusterWith("web", "", "own")
	own.Variant = "shop/one"
	c.set(t, lazy(cluster("web", ""), own)...)
	for name, test := range map[string]struct {
		node *corev3.Node
		want string
	}{"its own": {gatewayPod("one"), " (shop/one)"}, "another gateway": {gatewayPod("two"), ""}, "a sidecar": {pod("a", "n"), ""}} {
		p := c.connect(t, test.node)
		p.subscribe(envoy.ClusterType, "web")
		if got := p.take(envoy.ClusterType, "web").Resources[0].Version; got != c.version(t, envoy.ClusterType, "web"+test.want) {
			t.Errorf("%s: got another variant than web%s", name, test.want)
		}
	}
}

// A gateway that comes back gets what has changed. It has no scopes to wait for.
func TestGatewayReconnects(t *testing.T) {
	c := start(t)
	c.ResumeFor(longResume)
	c.set(t, append(edge("one"), lazy(cluster("web", ""), cluster("tcp", ""))...)...)
	held := func(typeURL string, names ...string) map[string]string {
		out := map[string]string{}
		for _, name := range names {
			out[name] = c.version(t, typeURL, name)
		}
		return out
	}
	clusters := held(envoy.ClusterType, "one-own", "tcp", "web")
	listeners, routes := held(envoy.ListenerType, "one"), held(envoy.RouteType, "one-routes")
	secrets := held(envoy.SecretType, "one-secret")
	c.set(t, owned("shop/one", secret("one-secret", "rotated"), listener("one-more"))...)
	p := c.connect(t, gatewayPod("one"))
	p.resume(envoy.ClusterType, clusters, "*")
	p.resume(envoy.ListenerType, listeners)
	p.take(envoy.ListenerType, "one-more") // long before the time for resumption is over
	p.resume(envoy.RouteType, routes, "one-routes")
	p.resume(envoy.SecretType, secrets, "one-secret")
	p.take(envoy.SecretType, "one-secret")
	p.quiet()
	c.set(t, lazy(clusterWith("web", "", "changed"))...)
	p.take(envoy.ClusterType, "web")
	c.set(t, owned("shop/one", routeTo("one-routes", "tcp"))...)
	p.take(envoy.RouteType, "one-routes")
}
