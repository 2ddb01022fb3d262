package mesh

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// A name says HTTP where nothing speaks for TLS inside of it.
func TestProtocolOf(t *testing.T) {
	number, name := intstr.FromInt32, intstr.FromString
	for _, c := range []struct {
		name        string
		port        int32
		target      intstr.IntOrString
		appProtocol string
		want        Protocol
	}{
		{"http", 80, number(8080), "", HTTP},
		{"grpc", 9000, number(9000), "", HTTP},
		{"http-metrics", 9090, name("metrics"), "", HTTP},
		{"grpc", 443, number(8080), "", Detect},
		{"http", 80, number(8443), "", Detect},
		{"http", 80, name("https"), "", Detect},
		{"grpc-tls", 9000, number(9000), "", Detect},
		{"http-web-ssl", 9000, number(9000), "", Detect},
		{"https", 443, number(8443), "", TCP},
		{"tls-grpc", 9000, number(9000), "", TCP},
		{"tcp", 443, number(443), "", TCP},
		{"grpc", 443, number(8443), "grpc", HTTP},
		{"http-tls", 9000, number(9000), "http", HTTP},
		{"web", 443, number(443), "", Detect},
		{"web", 5432, number(5432), "", TCP},
	} {
		port := corev1.ServicePort{Name: c.name, Port: c.port, TargetPort: c.target}
		if c.appProtocol != "" {
			port.AppProtocol = &c.appProtocol
		}
		svc := &corev1.Service{Spec: corev1.ServiceSpec{Ports: []corev1.ServicePort{port}}}
		if got, problem := protocolOf(svc, 0, []int32{5432}); got != c.want || problem != nil {
			t.Errorf("%s %d→%s, appProtocol %q: got %v, %v, want %v", c.name, c.port, c.target.String(), c.appProtocol, got, problem, c.want)
		}
	}
}
