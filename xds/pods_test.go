package xds

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/wait"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/translate/translatetest"
)

// secure runs a controller on a cluster with identities.
func secure(t *testing.T, f *fakeCluster) *Controller {
	t.Helper()
	return run(t, Options{Source: f.source, Store: server.NewStore(), Config: secureConfig()})
}

// expected are the SPIFFE IDs of all TLS contexts of a cluster.
func expected(t *testing.T, c *clusterv3.Cluster) []string {
	t.Helper()
	var out []string
	for _, s := range append(c.TransportSocketMatches, &clusterv3.Cluster_TransportSocketMatch{TransportSocket: c.TransportSocket}) {
		var tls tlsv3.UpstreamTlsContext
		if s.TransportSocket.GetTypedConfig().UnmarshalTo(&tls) != nil {
			continue // plain text
		}
		for _, m := range tls.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
			out = append(out, m.Matcher.GetExact())
		}
	}
	return out
}

func TestCallsToAddressesOfPods(t *testing.T) {
	id := func(serviceAccount string) string { return mesh.SPIFFEID("cluster.local", "shop", serviceAccount) }
	pod := func(name, serviceAccount, ip string) *corev1.Pod {
		return translatetest.Pod("shop", name, serviceAccount, ip)
	}
	f := newFakeCluster(t, func(f *fakeCluster) {
		add := f.pods.Add
		a := pod("a", "cart", "10.1.0.1")
		a.Spec.InitContainers = sidecartest.Containers("--exclude-inbound-ports=9100")
		add(a)
		bare := pod("bare", "cart", "10.1.0.2")
		bare.Spec.InitContainers = nil
		add(bare)
		onNode := pod("on-node", "cart", "10.1.0.3")
		onNode.Spec.HostNetwork = true
		add(onNode)
		two := pod("two", "cart", "10.1.0.4")
		two.Status.PodIPs = append(two.Status.PodIPs, corev1.PodIP{IP: "fd00::4"})
		add(two)
		for name, ip := range map[string]string{"claims-5": "10.1.0.5", "claims-5-too": "10.1.0.5"} {
			add(pod(name, name, ip))
		}
	})
	c := secure(t, f)
	p := connect(t, c.opt.Store)
	ask := func(name string) { p.subscribe(envoy.PodAddressType, name) }
	next := func(name, want string) {
		t.Helper()
		if got := p.address(name); got != want {
			t.Errorf("%s: calls %s, want %s", name, got, want)
		}
	}
	unknown := "pod/10.1.0.5:80"
	ask(unknown) // two pods claim it, and nobody else waits for that
	for name, want := range map[string]string{
		"pod/10.1.0.1:80":   id("cart"),
		"pod/10.1.0.1:9100": mesh.PlainText, // not captured
		"pod/10.1.0.2:80":   mesh.PlainText, // without a sidecar
		"pod/10.1.0.3:80":   mesh.PlainText, // the node's
		"pod/10.1.0.4:80":   id("cart"),
		"pod/[fd00::4]:80":  id("cart"),
		"pod/10.1.0.9:80":   mesh.PlainText, // no pod's
		"pod/10.1.0.1":      "nobody",       // none of our names
	} {
		ask(name)
		next(name, want)
	}

	// It is known who it is when one of them is on its way out.
	leaving := pod("claims-5", "claims-5", "10.1.0.5")
	leaving.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	f.pods.Modify(leaving)
	next(unknown, id("claims-5-too"))
	// A pod comes to be known. Its address goes to another one, which takes it over, then to nobody.
	f.pods.Add(pod("b", "pay", "10.1.0.9"))
	next("pod/10.1.0.9:80", id("pay"))
	f.pods.Add(pod("c", "rates", "10.1.0.9")) // not told, for it is not known whose it is
	f.pods.Delete(pod("b", "pay", "10.1.0.9"))
	next("pod/10.1.0.9:80", id("rates"))
	ended := pod("c", "rates", "10.1.0.9")
	ended.Status.Phase = corev1.PodSucceeded
	f.pods.Modify(ended)
	next("pod/10.1.0.9:80", mesh.PlainText)

	p.stop()
	eventually(t, "nothing is left of what nobody wants", func() bool {
		return len(published(t, c.opt.Store)["PodAddress"]) == 0
	})
}

// The outbound listener has the ranges of pods. It follows at once where pods come to a new one, and forgets none of
// them before it changes anyway.
func TestRangesOfPods(t *testing.T) {
	b := translatetest.Pod("shop", "b", "cart", "10.1.1.1")
	f := newFakeCluster(t, func(f *fakeCluster) {
		f.pods.Add(translatetest.Pod("shop", "a", "cart", "10.1.0.1"))
		f.services.Add(httpService("web", "10.96.0.1"))
	})
	c := secure(t, f)
	p := connect(t, c.opt.Store)
	t.Cleanup(p.stop)
	ranges := func(want ...string) {
		t.Helper()
		if got := rangesOf(t, p.outbound()); !slices.Equal(got, want) {
			t.Errorf("ranges are %q, want %q", got, want)
		}
	}
	p.subscribe(envoy.PodAddressType, "pod/10.1.1.1:80")
	p.subscribe(envoy.ClusterType, "outbound/shop/more/80")
	p.cluster("outbound/shop/more/80")
	p.subscribe(envoy.ListenerType, "*")
	ranges("10.1.0.0/24")
	f.pods.Add(b)
	ranges("10.1.0.0/24", "10.1.1.0/24")
	// b goes and c comes, which are no reasons. A Service is published after that, and still there is none.
	f.pods.Delete(b)
	for who := ""; who != mesh.PlainText; {
		who = p.address("pod/10.1.1.1:80")
	}
	f.pods.Add(translatetest.Pod("shop", "c", "cart", "10.1.0.2"))
	f.services.Add(httpService("more", "10.96.0.2"))
	p.cluster("outbound/shop/more/80")
	// But a third range is one.
	f.pods.Add(translatetest.Pod("shop", "d", "cart", "10.1.2.1"))
	ranges("10.1.0.0/24", "10.1.2.0/24")
}

func httpService(name, ip string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}, Spec: corev1.ServiceSpec{
		ClusterIP: ip, ClusterIPs: []string{ip}, Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
	}}
}

// Copies of requests know who answers them, also when it is somebody new.
func TestMirrorsFollowIdentities(t *testing.T) {
	slice := func(addresses ...string) *discoveryv1.EndpointSlice {
		s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
		s.Namespace, s.Name, s.Labels = "shop", "copy", map[string]string{discoveryv1.LabelServiceName: "copy"}
		s.Ports = []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(8080)), Protocol: new(corev1.ProtocolTCP)}}
		for _, address := range addresses { // made by hand: no pod is named
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{Addresses: []string{address}})
		}
		return s
	}
	f := newFakeCluster(t, func(f *fakeCluster) {
		f.services.Add(httpService("web", "10.96.0.1"))
		f.services.Add(httpService("copy", "10.96.0.2"))
		f.slices.Add(slice("10.1.0.1", "10.1.0.2"))
		f.pods.Add(translatetest.Pod("shop", "a", "first", "10.1.0.1"))
		f.http.Add(mirrorRoute("web", "copy"))
	})
	c := secure(t, f)
	mirror := func() string {
		for _, name := range clusters(t, c) {
			if strings.HasPrefix(name, "mirror/") {
				return name
			}
		}
		return ""
	}
	p := connect(t, c.opt.Store)
	t.Cleanup(p.stop)
	p.subscribe(envoy.ClusterType, mirror())
	id := func(serviceAccount string) string { return mesh.SPIFFEID("cluster.local", "shop", serviceAccount) }
	if got, want := expected(t, p.cluster(mirror())), []string{id("first")}; !slices.Equal(got, want) {
		t.Errorf("copies are sent to %q, want %q", got, want)
	}
	f.services.Add(httpService("more", "10.96.0.3")) // with it is published what else was held back
	eventually(t, "the next Service is published", func() bool { return slices.Contains(clusters(t, c), "outbound/shop/more/80") })
	f.pods.Add(translatetest.Pod("shop", "b", "second", "10.1.0.2"))
	if got, want := expected(t, p.cluster(mirror())), []string{id("first"), id("second")}; !slices.Equal(got, want) {
		t.Errorf("copies are sent to %q, want %q", got, want)
	}
}

func mirrorRoute(parent, to string) *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "mirror"}}
	r.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(parent)}}
	ref := func(name string) gatewayv1.BackendObjectReference {
		return gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Port: new(gatewayv1.PortNumber(80))}
	}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{{
		BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: ref(parent)}}},
		Filters: []gatewayv1.HTTPRouteFilter{{
			Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: ref(to)},
		}},
	}}
	return r
}

// rangesOf reads those that take the chain of pods.
func rangesOf(t *testing.T, l *listenerv3.Listener) []string {
	t.Helper()
	var out []string
	for _, m := range l.FilterChainMatcher.GetMatcherList().GetMatchers() {
		if m.OnMatch.GetAction().GetName() != "pod" {
			continue
		}
		var ip ipv3.Ip
		if err := m.Predicate.GetSinglePredicate().GetCustomMatch().GetTypedConfig().UnmarshalTo(&ip); err != nil {
			t.Fatal(err)
		}
		for _, r := range ip.CidrRanges {
			out = append(out, fmt.Sprintf("%s/%d", r.AddressPrefix, r.PrefixLen.Value))
		}
	}
	return out
}

func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if wait.PollUntilContextCancel(ctx, time.Millisecond, true, func(context.Context) (bool, error) { return condition(), nil }) != nil {
		t.Fatalf("not within 10 s: %s", what)
	}
}

// clusters are the names of those in the store.
func clusters(t *testing.T, c *Controller) []string {
	t.Helper()
	var out []string
	for name := range published(t, c.opt.Store)["Cluster"] {
		out = append(out, name)
	}
	return out
}
