package e2e

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
)

// applications makes the same Services and workloads on each side of the comparison.
func (s *side) applications(o outside) {
	s.Helper()
	spec := serverPod("server", "--http=:8080,127.0.0.1:8085", "--grpc=:50051", "--mysql=:3306,:13306", "--smtp=:2525",
		"--echo=:4445", "--tls=:8443", "--udp=:5353")
	spec.Containers[0].Ports = []corev1.ContainerPort{{Name: "web", ContainerPort: 8080}}
	s.deploy("server", 2, spec)
	s.service("server", "server",
		portTo("http", 80, intstr.FromString("web")),
		port("grpc", 50051),
		port("mysql", 3306),
		port("odd", 13306),
		portTo("mail", 25, intstr.FromInt(2525)),
		port("raw", 4445),
		portTo("tls", 443, intstr.FromInt(8443)),
		portTo("undeclared", 81, intstr.FromInt(8080)),
		corev1.ServicePort{Name: "dns", Port: 5353, Protocol: corev1.ProtocolUDP},
	)
	// More Services over the same pods: another port number, and one number with two protocols.
	s.service("second", "server", portTo("http", 8888, intstr.FromInt(8080)))
	s.service("shared-http", "server", portTo("http", 9000, intstr.FromInt(8080)))
	s.service("shared-tcp", "server", portTo("tcp", 9000, intstr.FromInt(3306)))
	s.service("local-only", "server", port("http", 8085))
	s.service("nobody", "nobody", portTo("http", 80, intstr.FromInt(8080)), port("grpc", 50051))
	s.dualStack("dual")
	s.headless("headless", "server", port("http", 8080), port("grpc", 50051), port("mysql", 3306))

	s.deploy("self", 1, serverPod())
	s.service("self", "self", port("http", 8080), port("grpc", 50051))
	s.deploy("unready", 1, serverPod("server", "--http=:8080", "--ready-delay=1h"))
	s.serviceWith("unready", corev1.ServiceSpec{
		Selector: map[string]string{"app": "unready"}, Ports: []corev1.ServicePort{port("http", 8080)}, PublishNotReadyAddresses: true,
	})
	s.headless("sts", "sts", port("http", 8080), port("grpc", 50051), port("tcp-db", 3306))
	s.statefulSet("sts", "sts", 2, serverPod("server", "--http=:8080", "--grpc=:50051", "--mysql=:3306"))
	s.outsideServices(o)
	s.create(s.pod("client", serverPod("server")))
}

func (s *side) dualStack(name string) {
	s.Helper()
	both := corev1.IPFamilyPolicyPreferDualStack
	s.serviceWith(name, corev1.ServiceSpec{
		Selector: map[string]string{"app": "server"}, Ports: []corev1.ServicePort{port("http", 8080), port("grpc", 50051)}, IPFamilyPolicy: &both,
	})
}

// outsideServices gives names to what lies outside the mesh: a Service without selector, whose endpoint is
// the node's own address, and ExternalNames for it and for a Service of the cluster.
func (s *side) outsideServices(o outside) {
	s.Helper()
	s.serviceWith("outside", corev1.ServiceSpec{ClusterIP: corev1.ClusterIPNone, Ports: []corev1.ServicePort{port("tls", 9843), port("http", 9880)}})
	portNames, numbers := []string{"tls", "http"}, []int32{9843, 9880}
	_, err := s.DiscoveryV1().EndpointSlices(s.ns).Create(s.ctx, &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Name: "outside", Labels: map[string]string{discoveryv1.LabelServiceName: "outside"}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{o.hostIP}}},
		Ports:       []discoveryv1.EndpointPort{{Name: &portNames[0], Port: &numbers[0]}, {Name: &portNames[1], Port: &numbers[1]}},
	}, metav1.CreateOptions{})
	s.must(err)
	for alias, target := range map[string]string{"alias": "server", "alias-outside": "outside"} {
		s.serviceWith(alias, corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: target + "." + s.ns + ".svc.cluster.local"})
	}
}
