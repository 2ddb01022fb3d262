package translate

import (
	corev1 "k8s.io/api/core/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// readParameters returns the parameters of a Gateway, and what is wrong with them. Those with a mistake are as they were before, because
// without what they say of clients and of a Service no client would come through.
func (t *Translator) readParameters(gw *gatewayv1.Gateway) (config.GatewayParameters, error) {
	key := mesh.Key{Namespace: gw.Namespace, Name: gw.Name}
	p, err := config.ReadParameters(t.cfg.Gateways.Defaults, t.gateways.classes[string(gw.Spec.GatewayClassName)], gw, func(namespace, name string) *corev1.ConfigMap {
		return t.gateways.configMaps[mesh.Key{Namespace: namespace, Name: name}]
	})
	if before, ok := t.gateways.parameters[key]; ok && err != nil {
		p = before
	}
	t.forgetParameters(key)
	service := mesh.GatewayService(gw, p)
	t.gateways.parameters[key], t.gateways.service[key] = p, service
	t.gateways.byService.insert(service, key)
	return p, err
}

func (t *Translator) forgetParameters(gateway mesh.Key) {
	t.gateways.byService.delete(t.gateways.service[gateway], gateway)
	delete(t.gateways.service, gateway)
	delete(t.gateways.parameters, gateway)
}

// setGatewayService takes a Service, of whose addresses the status of a Gateway may speak.
func (t *Translator) setGatewayService(key mesh.Key, now *corev1.Service) {
	if t.gateways.services[key] = now; now == nil {
		delete(t.gateways.services, key)
	}
	t.gatewayPodsChanged(key)
}

// gatewayPodsChanged holds the Gateways whose pods are behind a Service.
func (t *Translator) gatewayPodsChanged(service mesh.Key) {
	for gateway := range t.gateways.byService[service] {
		t.holdGateways(gateway)
	}
}
