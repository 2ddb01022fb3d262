package mesh

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Ports are declared by Services, and by the pod where these say nothing.
func TestHTTPPorts(t *testing.T) {
	pod := &Pod{Key: Key{Namespace: "shop", Name: "cart-0"}, Labels: map[string]string{"app": "cart"}, Ports: map[string]uint16{"http": 8080, "admin": 9000, "grpc-x": 9090}}
	appProtocol := func(p corev1.ServicePort, text string) corev1.ServicePort {
		p.AppProtocol = &text
		return p
	}
	named := func(name string, port int32, target string) corev1.ServicePort {
		p := corev1.ServicePort{Name: name, Port: port}
		p.TargetPort.Type, p.TargetPort.StrVal = 1, target
		return p
	}
	for name, c := range map[string]struct {
		namespace string
		selector  map[string]string
		ports     []corev1.ServicePort
		want      string
	}{
		"nothing":            {"shop", pod.Labels, nil, "8080 9090"},
		"undeclared":         {"shop", pod.Labels, []corev1.ServicePort{named("", 80, "http")}, "8080 9090"},
		"HTTP by number":     {"shop", pod.Labels, []corev1.ServicePort{{Name: "http", Port: 80}}, "80 8080 9090"},
		"HTTP by name":       {"shop", pod.Labels, []corev1.ServicePort{named("web", 80, "admin"), appProtocol(named("h2c", 81, "admin"), "kubernetes.io/h2c")}, "8080 9000 9090"},
		"TCP":                {"shop", pod.Labels, []corev1.ServicePort{named("tcp", 80, "http")}, "9090"},
		"one of each":        {"shop", pod.Labels, []corev1.ServicePort{named("tcp", 80, "http"), named("http", 81, "http")}, "9090"},
		"an unknown word":    {"shop", pod.Labels, []corev1.ServicePort{appProtocol(named("http", 80, "http"), "htpp")}, "9090"},
		"no port of the pod": {"shop", pod.Labels, []corev1.ServicePort{named("http", 80, "other")}, "8080 9090"},
		"UDP":                {"shop", pod.Labels, []corev1.ServicePort{{Name: "http3", Port: 443, Protocol: corev1.ProtocolUDP}}, "8080 9090"},
		"no selector":        {"shop", nil, []corev1.ServicePort{named("tcp", 80, "http")}, "8080 9090"},
		"another pod's":      {"shop", map[string]string{"app": "web"}, []corev1.ServicePort{named("tcp", 80, "http")}, "8080 9090"},
		"another namespace":  {"bank", pod.Labels, []corev1.ServicePort{named("tcp", 80, "http")}, "8080 9090"},
	} {
		t.Run(name, func(t *testing.T) {
			service := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: "cart"}, Spec: corev1.ServiceSpec{Selector: c.selector, Ports: c.ports}}
			got := HTTPPorts(pod, slices.Values([]Declared{BuildDeclared(service, Options{})}))
			if text := strings.Trim(fmt.Sprint(got), "[]"); text != c.want {
				t.Errorf("%s, want %s", text, c.want)
			}
		})
	}
}

// Who lets everybody in needs no look into what they say.
func TestDeclareHTTP(t *testing.T) {
	from := []Caller{{Namespace: "shop"}}
	for name, c := range map[string]struct {
		policies []Policy
		want     bool
	}{
		"nothing":               {nil, false},
		"an Allow":              {[]Policy{{Rules: []CallRule{{From: from}}}}, true},
		"of nobody":             {[]Policy{{}}, true},
		"of everybody":          {[]Policy{{Rules: []CallRule{{From: from}, {}}}}, false},
		"of everybody here":     {[]Policy{{Rules: []CallRule{{From: from}, {Ports: []uint16{8080}}}}}, false},
		"of everybody at 9090":  {[]Policy{{Rules: []CallRule{{From: from}, {Ports: []uint16{9090}}}}}, true},
		"a Deny":                {[]Policy{{Deny: true, Rules: []CallRule{{From: from}}}}, true},
		"a Deny at 9090":        {[]Policy{{Deny: true, Rules: []CallRule{{From: from, Ports: []uint16{9090}}}}}, false},
		"an Allow, tried":       {[]Policy{{DryRun: true, Rules: []CallRule{{From: from}}}}, false},
		"one enforced, one not": {[]Policy{{Rules: []CallRule{{From: from}}}, {DryRun: true, Rules: []CallRule{{}}}}, true},
	} {
		in := Inbound{Policies: c.policies}
		in.DeclareHTTP([]uint16{8080})
		if got := len(in.HTTPPorts()) > 0; got != c.want {
			t.Errorf("%s: %t, want %t", name, got, c.want)
		}
	}
}
