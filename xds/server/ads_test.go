package server_test

import (
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// connected is a proxy that holds Service "a" and the listener "out", all acknowledged.
func connected(t *testing.T, c *control, name string) *proxy {
	t.Helper()
	p := c.connect(t, pod(name, "n1"))
	p.subscribe(envoy.ClusterType)
	p.warm("a")
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType, "out")
	p.subscribe(envoy.ScopedRouteType)
	p.take(envoy.ScopedRouteType, "a", "ask")
	p.subscribe(envoy.RouteType, "a")
	p.take(envoy.RouteType, "a")
	p.quiet() // so the last acknowledgement has been read
	return p
}

func TestMakeBeforeBreak(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	// Service b comes and Service a goes, at once. Until its scope is gone, requests to a are told so.
	c.apply(t, envoy.Change{Set: append(whole("b"), listener("new")), Remove: ids(append(whole("a"), listener("out")))})

	clusters := p.expect(envoy.ClusterType, "b")
	scopes, noA := p.response("a scope or routes"), p.response("a scope or routes")
	if scopes.TypeUrl == envoy.RouteType {
		scopes, noA = noA, scopes
	}
	if got := content(scopes); scopes.TypeUrl != envoy.ScopedRouteType || !slices.Equal(got, []string{"b"}) {
		t.Fatalf("got %s %q, want scope b", scopes.TypeUrl, got)
	}
	if got := content(noA); noA.TypeUrl != envoy.RouteType || !slices.Equal(got, []string{"a"}) {
		t.Fatalf("got %s %q, want routes a", noA.TypeUrl, got)
	}
	p.ack(noA)
	p.subscribe(envoy.RouteType, "b")
	p.quiet() // routes wait for the cluster's endpoints …
	p.subscribe(envoy.EndpointType, "b")
	p.take(envoy.EndpointType, "b")
	p.quiet() // … and for its acknowledgement …
	p.ack(clusters)
	p.take(envoy.RouteType, "b")
	p.quiet() // … and listeners and what is gone for that of the scopes
	p.ack(scopes)
	p.take(envoy.ListenerType, "new")
	// Nothing is left to add, so what is gone goes, in reverse.
	p.take(envoy.ListenerType, "-out")
	p.noScope("a")
	p.take(envoy.ClusterType, "-a")
	p.take(envoy.EndpointType, "-a")
	p.quiet()
}

func TestEndpointsWaitForNothing(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.apply(t, envoy.Change{Set: []envoy.Resource{cluster("b", "b"), endpoints("b", 0)}})
	p.expect(envoy.ClusterType, "b") // never acknowledged
	c.apply(t, envoy.Change{Set: []envoy.Resource{endpoints("a", 1)}})
	p.ack(p.expect(envoy.EndpointType, "a"))
	p.quiet()
}

// A changed cluster warms anew and waits for endpoints, but Envoy does not ask again for what it is
// subscribed to, and acknowledges the cluster only when it is warm.
func TestChangedClusterGetsItsEndpointsAgain(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.apply(t, envoy.Change{Set: []envoy.Resource{clusterWith("a", "a", "changed"), listener("new")}})
	clusters := p.expect(envoy.ClusterType, "a")
	p.ack(p.expect(envoy.EndpointType, "a"))
	p.quiet()
	p.ack(clusters)
	p.ack(p.expect(envoy.ListenerType, "new"))
	p.quiet()
}

// The same after a reconnect: the proxy says that it holds the endpoints, but its cluster has changed.
func TestReconnectToChangedCluster(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: whole("a")})
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.ClusterType)
	clusters := p.expect(envoy.ClusterType, "a")
	p.subscribe(envoy.EndpointType, "a")
	eps := p.expect(envoy.EndpointType, "a")

	c.apply(t, envoy.Change{Set: []envoy.Resource{clusterWith("a", "a", "changed")}})
	again := c.connect(t, pod("one", "n1"))
	again.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: envoy.ClusterType, InitialResourceVersions: map[string]string{"a": clusters.Resources[0].Version},
	})
	again.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: envoy.EndpointType, ResourceNamesSubscribe: []string{"a"},
		InitialResourceVersions: map[string]string{"a": eps.Resources[0].Version},
	})
	changed := again.expect(envoy.ClusterType, "a")
	again.ack(again.expect(envoy.EndpointType, "a"))
	again.ack(changed)
	again.quiet()
}

// What is sent to the HTTP chain must find its scope.
func TestListenersComeLast(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.apply(t, envoy.Change{Set: append(whole("b"), listener("new"))})
	clusters := p.expect(envoy.ClusterType, "b")
	scopes := p.expect(envoy.ScopedRouteType, "b")
	p.quiet()
	p.ack(clusters)
	p.quiet()
	p.subscribe(envoy.EndpointType, "b")
	p.take(envoy.EndpointType, "b")
	p.quiet()
	p.ack(scopes)
	p.take(envoy.ListenerType, "new")
	p.quiet()
}

// Scopes wait for nothing but the acknowledgement of earlier ones.
func TestScopesWaitForScopesOnly(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.set(t, whole("b")...)
	p.expect(envoy.ClusterType, "b") // never acknowledged
	first := p.expect(envoy.ScopedRouteType, "b")
	c.set(t, whole("c")...)
	p.quiet()
	p.ack(first)
	p.take(envoy.ScopedRouteType, "c")
	p.quiet()
}

// One cluster that a proxy refuses, and so never asks endpoints for, holds listeners up for no longer than a bound, and no
// other Service at all, however much else changes.
func TestRefusedClusterHoldsUpNobody(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.apply(t, envoy.Change{Set: slices.Concat(whole("bad"), whole("good"), []envoy.Resource{listener("new")})})
	res := p.expect(envoy.ClusterType, "bad", "good")
	p.scope("bad", "good")
	p.subscribe(envoy.EndpointType, "good")
	p.take(envoy.EndpointType, "good")
	p.nack(res, "bad: no")
	p.take(envoy.RouteType, "good")
	deadline := time.After(2 * 5 * time.Second)
	for n := 0; ; n++ {
		select {
		case res := <-p.in:
			if res.TypeUrl == envoy.ListenerType {
				return
			}
			p.ack(res)
		case <-time.After(time.Second): // pacing, not waiting: a change every second
			c.apply(t, envoy.Change{Set: []envoy.Resource{clusterWith("a", "a", strconv.Itoa(n))}})
		case <-deadline:
			t.Fatal("the listener was never sent")
		}
	}
}

func TestEverythingOfNothingIsAnswered(t *testing.T) {
	p := start(t).connect(t, pod("one", "n1"))
	for _, typeURL := range []string{envoy.ClusterType, envoy.ListenerType} {
		p.subscribe(typeURL)
		p.take(typeURL)
	}
	p.quiet()
}

func TestSlowProxyGetsTheNewestOnly(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	p := connected(t, c, "one")

	c.apply(t, envoy.Change{Set: []envoy.Resource{endpoints("a", 1)}})
	first := p.expect(envoy.EndpointType, "a")
	for i := range uint32(100) {
		c.apply(t, envoy.Change{Set: []envoy.Resource{endpoints("a", i+2)}})
	}
	p.quiet()
	p.ack(first)
	last := p.expect(envoy.EndpointType, "a")
	var got endpointv3.ClusterLoadAssignment
	if err := last.Resources[0].Resource.UnmarshalTo(&got); err != nil || got.Endpoints[0].Priority != 101 {
		t.Errorf("got %v, error %v; want the 101st", &got, err)
	}
	p.ack(last)
	p.quiet()
}

func TestReconnectSendsOnlyWhatDiffers(t *testing.T) {
	t.Parallel()
	c := start(t)
	c.apply(t, envoy.Change{Set: append(append(whole("a"), whole("b")...), listener("out"))})
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.ClusterType)
	versions := map[string]string{}
	for _, r := range p.expect(envoy.ClusterType, "a", "b").Resources {
		versions[r.Name] = r.Version
	}

	// Meanwhile b changes, c is new, and the proxy holds x, which was removed.
	versions["x"] = "1"
	c.apply(t, envoy.Change{Set: []envoy.Resource{clusterWith("b", "b", "changed"), cluster("c", "c"), endpoints("c", 0)}})
	again := c.connect(t, pod("one", "n1"))
	again.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.ClusterType, InitialResourceVersions: versions})
	again.ack(again.expect(envoy.ClusterType, "b", "c"))
	again.subscribe(envoy.EndpointType, "b", "c")
	again.ack(again.expect(envoy.EndpointType, "b", "c"))
	again.ack(again.expect(envoy.ClusterType, "-x"))

	same := c.connect(t, pod("two", "n1"))
	same.subscribe(envoy.RouteType, "a")
	held := same.expect(envoy.RouteType, "a").Resources[0].Version
	third := c.connect(t, pod("three", "n1"))
	third.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: envoy.RouteType, ResourceNamesSubscribe: []string{"a", "gone"},
		InitialResourceVersions: map[string]string{"a": held, "gone": "7"},
	})
	third.expect(envoy.RouteType, "-gone")
	third.quiet()
}

func TestNACKHarmsNobody(t *testing.T) {
	c := start(t)
	c.apply(t, envoy.Change{Set: append(whole("a"), listener("out"))})
	bad, good := connected(t, c, "bad"), connected(t, c, "good")

	c.apply(t, envoy.Change{Set: []envoy.Resource{listener("bad"), listener("fine")}})
	res := bad.expect(envoy.ListenerType, "bad", "fine")
	bad.send(&discoveryv3.DeltaDiscoveryRequest{
		TypeUrl: res.TypeUrl, ResponseNonce: res.Nonce,
		ErrorDetail: &rpcstatus.Status{Code: int32(codes.InvalidArgument), Message: "Error adding listener bad: no address"},
	})
	good.ack(good.expect(envoy.ListenerType, "bad", "fine"))
	bad.quiet() // not sent again as it is

	for _, p := range c.Proxies() {
		nack, refused := p.NACKs["Listener"]
		if want := p.Proxy == "shop/bad"; refused != want {
			t.Fatalf("%s: NACKs %v", p.Proxy, p.NACKs)
		}
		if refused && (nack.Count != 1 || nack.Over != nil || !slices.Equal(nack.Resources, []string{"bad"}) || !strings.Contains(nack.Error, "no address")) {
			t.Errorf("got %+v", nack)
		}
	}
	c.apply(t, envoy.Change{Remove: []envoy.ID{{Type: envoy.ListenerType, Name: "bad"}}})
	bad.ack(bad.expect(envoy.ListenerType, "-bad"))
	good.ack(good.expect(envoy.ListenerType, "-bad"))
	await(t, "the end of the refusal", func() bool {
		for _, p := range c.Proxies() {
			if p.Proxy == "shop/bad" {
				return p.NACKs["Listener"].Over != nil
			}
		}
		return false
	})
}

func TestVariants(t *testing.T) {
	c := start(t)
	local := func(variant string, priority uint32) envoy.Resource {
		r := endpoints("local", priority)
		r.Variant = variant
		return r
	}
	c.apply(t, envoy.Change{Set: []envoy.Resource{local("", 0), local("n1", 1), local("n2", 2)}})
	for kubernetesNode, want := range map[string]uint32{"n1": 1, "n2": 2, "n3": 0} {
		p := c.connect(t, pod("one", kubernetesNode))
		p.subscribe(envoy.EndpointType, "local")
		var got endpointv3.ClusterLoadAssignment
		if err := p.expect(envoy.EndpointType, "local").Resources[0].Resource.UnmarshalTo(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Endpoints[0].Priority); diff != "" {
			t.Errorf("%s: %s", kubernetesNode, diff)
		}
	}
}

// A proxy has the endpoints for its node, or else for the zone of its node, also when that becomes known later and changes.
func TestZones(t *testing.T) {
	c := start(t)
	of := func(variant string, priority uint32) envoy.Resource {
		r := endpoints("near", priority)
		r.Variant = variant
		return r
	}
	c.apply(t, envoy.Change{
		Set:   []envoy.Resource{of("", 0), of("n1", 1), of("zone/east", 2), of("zone/west", 3), endpoints("other", 0)},
		Zones: map[string]string{"n1": "east", "n2": "east", "n4": "north"},
	})
	expect := func(p *proxy, want uint32) {
		t.Helper()
		var got endpointv3.ClusterLoadAssignment
		res := p.expect(envoy.EndpointType, "near")
		if err := res.Resources[0].Resource.UnmarshalTo(&got); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got.Endpoints[0].Priority); diff != "" {
			t.Error(diff)
		}
		p.ack(res)
	}
	proxies := map[string]*proxy{}
	for kubernetesNode, want := range map[string]uint32{"n1": 1, "n2": 2, "n3": 0, "n4": 0} {
		p := c.connect(t, pod("one-on-"+kubernetesNode, kubernetesNode))
		p.subscribe(envoy.EndpointType, "near")
		expect(p, want)
		p.subscribe(envoy.EndpointType, "other")
		p.ack(p.expect(envoy.EndpointType, "other"))
		proxies[kubernetesNode] = p
	}
	c.apply(t, envoy.Change{Zones: map[string]string{"n1": "west", "n2": "", "n3": "west"}})
	expect(proxies["n2"], 0)
	expect(proxies["n3"], 3)
	proxies["n1"].quiet() // it has a variant of its own
	proxies["n4"].quiet()
	c.apply(t, envoy.Change{Set: []envoy.Resource{of("", 4), of("zone/west", 5)}})
	for kubernetesNode, want := range map[string]uint32{"n1": 5, "n2": 4, "n3": 5, "n4": 4} {
		expect(proxies[kubernetesNode], want)
	}
}

func TestUnreadableNodeIsRefused(t *testing.T) {
	c := start(t)
	p := c.connect(t, &corev3.Node{Id: "no-slash"})
	p.send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.ClusterType})
	<-p.in // closed
	_, err := p.stream.Recv()
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), `"no-slash": want "<namespace>/<pod>"`) {
		t.Errorf("got %v", err)
	}
}
