package mesh

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// A Service that stands already has to lead to the pods and to all their ports. The Gateway's status names what is missing.
func TestGatewayNamedService(t *testing.T) {
	const selector = "gateway.networking.k8s.io/gateway-class-name=mizzen,gateway.networking.k8s.io/gateway-name=public"
	good := corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{gatewayv1.GatewayNameLabelKey: "public"},
		Ports: []corev1.ServicePort{
			{Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(64592)},
			{Port: 5353, Protocol: corev1.ProtocolUDP}, // to the same port
			{Port: 9999, Protocol: corev1.ProtocolTCP},
		},
	}
	for _, c := range []struct {
		name   string
		change func(*corev1.ServiceSpec)
		none   bool
		want   string // the message of the condition Programmed
	}{
		{"right", func(*corev1.ServiceSpec) {}, false, "the Gateway's pods are ready at its addresses"},
		{"by a label of the user", func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "edge"} }, false, "the Gateway's pods are ready at its addresses"},
		{"none", nil, true, `parameters: serviceName: "lb": want a Service of namespace edge; there is none with this name`},
		{
			"other pods", func(s *corev1.ServiceSpec) { s.Selector = map[string]string{"app": "shop"} }, false,
			`Service edge/lb: spec.selector: "app=shop": want labels of the Gateway's pods, such as ` + selector,
		},
		{
			"no selector", func(s *corev1.ServiceSpec) { s.Selector = nil }, false,
			`Service edge/lb: spec.selector: "": want labels of the Gateway's pods, such as ` + selector,
		},
		{
			"no UDP port", func(s *corev1.ServiceSpec) { s.Ports = s.Ports[:1] }, false,
			`Service edge/lb: spec.ports: "80/TCP -> 64592": want a port 5353 of protocol UDP with targetPort 5353 for the listeners at this port`,
		},
		{
			"another target", func(s *corev1.ServiceSpec) { s.Ports[0].TargetPort = intstr.FromString("http") }, false,
			`Service edge/lb: spec.ports: "80/TCP -> http, 5353/UDP -> 0, 9999/TCP -> 0": want a port 80 of protocol TCP with targetPort 64592 for the listeners at this port`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			in := gatewayInputs(listenerOf("http", 80, gatewayv1.HTTPProtocolType, ""), listenerOf("dns", 5353, gatewayv1.UDPProtocolType, ""))
			in.Gateway.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{Labels: map[gatewayv1.LabelKey]gatewayv1.LabelValue{"app": "edge"}}
			in.Parameters.ServiceName = "lb"
			in.Deployed = Deployed{Addresses: []gatewayv1.GatewayStatusAddress{{Value: "192.0.2.1"}}, Ready: true}
			if !c.none {
				in.Service = &corev1.Service{Spec: *good.DeepCopy()}
				c.change(&in.Service.Spec)
			}
			_, statuses, _ := BuildGateway(in)
			for _, condition := range statuses[0].Conditions {
				if condition.Type == gatewayv1.RouteConditionType(gatewayv1.GatewayConditionProgrammed) && condition.Message != c.want {
					t.Errorf("Programmed is %t: %s\nwant %s", condition.True, condition.Message, c.want)
				}
			}
		})
	}
}
