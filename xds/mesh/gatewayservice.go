package mesh

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// clientsOf returns what parameters say of clients.
func clientsOf(p config.GatewayParameters) Clients {
	return Clients{
		TrustedHops: uint32(deref(p.TrustedHops)), ProxyProtocol: deref(p.ProxyProtocol), ForwardClientCertificate: deref(p.ForwardClientCertificate),
	}
}

// GatewayService returns the Service before the pods of a Gateway: the one that its parameters name, or the one that it gets.
func GatewayService(gw *gatewayv1.Gateway, p config.GatewayParameters) Key {
	if p.ServiceName != "" {
		return Key{gw.Namespace, p.ServiceName}
	}
	return Key{gw.Namespace, GatewayName(gw.Name, string(gw.Spec.GatewayClassName))}
}

// GatewaySelector returns the labels by which the pods of a Gateway are known.
func GatewaySelector(gw *gatewayv1.Gateway) map[string]string {
	return map[string]string{
		gatewayv1.GatewayNameLabelKey:      GatewayLabel(gw.Name),
		gatewayv1.GatewayClassNameLabelKey: GatewayLabel(string(gw.Spec.GatewayClassName)),
	}
}

// checkService returns why the Service that the parameters name does not lead to all ports of the Gateway's pods, or nil.
func (b *gatewayBuilder) checkService() error {
	if b.in.Parameters.ServiceName == "" {
		return nil
	}
	id, svc := ID{KindService, GatewayService(b.in.Gateway, b.in.Parameters)}, b.in.Service
	if svc == nil {
		return fmt.Errorf("parameters: serviceName: %q: want a Service of namespace %s; there is none with this name", id.Name, id.Namespace)
	}
	var errs []error
	refuse := func(field, value, want string) {
		errs = append(errs, fmt.Errorf("%s: %s", id, fault{field: field, value: value, want: want}))
	}
	own, pods := GatewaySelector(b.in.Gateway), labels.Set{}
	if i := b.in.Gateway.Spec.Infrastructure; i != nil {
		for key, value := range i.Labels {
			pods[string(key)] = string(value)
		}
	}
	maps.Copy(pods, own)
	if s := labels.Set(svc.Spec.Selector); len(s) == 0 || !s.AsSelectorPreValidated().Matches(pods) {
		refuse("spec.selector", s.String(), "labels of the Gateway's pods, such as "+labels.Set(own).String())
	}
	for _, p := range b.out.Ports {
		if !slices.ContainsFunc(svc.Spec.Ports, p.isOf) {
			refuse("spec.ports", portsText(svc.Spec.Ports), fmt.Sprintf("a port %d of protocol %s with targetPort %d for the listeners at this port", p.Port, p.protocol(), p.Bind))
		}
	}
	return errors.Join(errs...)
}

func (p GatewayPort) protocol() corev1.Protocol {
	if p.UDP {
		return corev1.ProtocolUDP
	}
	return corev1.ProtocolTCP
}

// isOf reports whether a port of a Service leads to the port of the pods.
func (p GatewayPort) isOf(s corev1.ServicePort) bool {
	protocol, target := s.Protocol, s.TargetPort.IntValue()
	if protocol == "" {
		protocol = corev1.ProtocolTCP
	}
	if s.TargetPort.StrVal == "" && target == 0 {
		target = int(s.Port)
	}
	return s.Port == int32(p.Port) && protocol == p.protocol() && target == int(p.Bind)
}

// portsText lists ports as "443/TCP -> 64955".
func portsText(ports []corev1.ServicePort) string {
	var out []string
	for _, p := range ports {
		out = append(out, fmt.Sprintf("%d/%s -> %s", p.Port, p.Protocol, p.TargetPort.String()))
	}
	return strings.Join(out, ", ")
}
