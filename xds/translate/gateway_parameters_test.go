package translate

import (
	"errors"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What parameters say of clients changes the listeners. A mistake in them changes nothing but the status.
func TestGatewayParameters(t *testing.T) {
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}}
	class.Spec.ControllerName = config.ControllerName
	gw := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public"}}
	gw.Spec.GatewayClassName = "mizzen"
	gw.Spec.Listeners = []gatewayv1.Listener{{Name: "tcp", Port: 9000, Protocol: gatewayv1.TCPProtocolType}}
	gw.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "own"}}
	object := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "own"}, Data: map[string]string{config.GatewayParametersKey: text}}
	}
	tr := New(config.Default())
	tr.Set(class)
	tr.Set(gw)
	for _, step := range []struct {
		name           string
		change         func()
		accepted, says bool // whether the Gateway is accepted, and its listener expects the PROXY protocol
	}{
		{"no ConfigMap", func() {}, false, false},
		{"asked for", func() { tr.Set(object("proxyProtocol: true")) }, true, true},
		{"a mistake", func() { tr.Set(object("{proxyProtocol: 1}")) }, false, true},
		{"deleted", func() {
			id, _ := IDOf(object(""))
			tr.Delete(id)
		}, false, true},
		{"not asked for", func() { tr.Set(object("replicas: 3")) }, true, false},
	} {
		step.change()
		r := tr.Build()
		accepted := r.Statuses[mesh.ID{Kind: mesh.KindGateway, Key: mesh.Key{Namespace: "edge", Name: "public"}}][0].Conditions[0]
		if accepted.True != step.accepted {
			t.Errorf("%s: Accepted is %t: %s", step.name, accepted.True, accepted.Message)
		}
		says := false
		for _, res := range r.Change.Set {
			if l, ok := res.Message.(*listenerv3.Listener); ok && res.Namespace == "edge" {
				says = says || slices.ContainsFunc(l.ListenerFilters, func(f *listenerv3.ListenerFilter) bool { return f.Name == "envoy.filters.listener.proxy_protocol" })
			}
		}
		if says != step.says {
			t.Errorf("%s: the PROXY protocol is expected: %t, want %t", step.name, says, step.says)
		}
	}
}

// The addresses of a Gateway are those of the Service that its parameters name, as soon as both are there.
func TestGatewayNamedService(t *testing.T) {
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}}
	class.Spec.ControllerName = config.ControllerName
	gw := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public"}}
	gw.Spec.GatewayClassName = "mizzen"
	gw.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: "own"}}
	parameters := func(text string) *corev1.ConfigMap {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "own"}, Data: map[string]string{config.GatewayParametersKey: text}}
	}
	service := func(name, address string) *corev1.Service {
		return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: name}, Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeClusterIP, ClusterIPs: []string{address}, Selector: map[string]string{gatewayv1.GatewayNameLabelKey: "public"},
		}}
	}
	tr := New(config.Default())
	tr.Set(class)
	tr.Set(service("lb", "10.96.0.1"))
	tr.Set(gw)
	for _, step := range []struct {
		name   string
		change func()
		want   string
	}{
		{"one's own", func() { tr.Set(parameters("replicas: 1")); tr.Set(service("public-mizzen", "10.96.0.9")) }, "10.96.0.9"},
		{"another", func() { tr.Set(parameters("serviceName: lb")) }, "10.96.0.1"},
		{"another address", func() { tr.Set(service("lb", "10.96.0.2")) }, "10.96.0.2"},
		{"deleted", func() { tr.Delete(mesh.ID{Kind: mesh.KindService, Key: mesh.Key{Namespace: "edge", Name: "lb"}}) }, ""},
		{"back", func() { tr.Set(service("lb", "10.96.0.3")) }, "10.96.0.3"},
		{"one's own again", func() { tr.Set(parameters("replicas: 1")) }, "10.96.0.9"},
	} {
		step.change()
		statuses := tr.Build().Statuses[mesh.ID{Kind: mesh.KindGateway, Key: mesh.Key{Namespace: "edge", Name: "public"}}]
		if len(statuses) == 0 {
			t.Fatalf("%s: no status", step.name)
		}
		got := ""
		for _, a := range statuses[0].Gateway.Addresses {
			got += a.Value
		}
		if got != step.want {
			t.Errorf("%s: address %q, want %q", step.name, got, step.want)
		}
	}
}

// Of a Gateway that could never be built nothing is left when it goes.
func TestRefusedGatewayGoes(t *testing.T) {
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}}
	class.Spec.ControllerName = config.ControllerName
	gw := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public"}}
	gw.Spec.GatewayClassName = "mizzen"
	for _, gone := range []metav1.Object{gw, class} {
		tr := New(config.Default())
		tr.check = func([]envoy.Resource) error { return errors.New("refused") }
		tr.Set(class)
		tr.Set(gw)
		if r := tr.Build(); len(r.GatewayErrors) != 1 {
			t.Fatalf("errors: %v, want one", r.GatewayErrors)
		}
		id, _ := IDOf(gone)
		tr.Delete(id)
		tr.Build()
		if g := tr.gateways; len(g.parameters)+len(g.service)+len(g.byService)+len(g.built) > 0 {
			t.Errorf("without %s is left: %v, %v, %v, %v", id, g.parameters, g.service, g.byService, g.built)
		}
	}
}
