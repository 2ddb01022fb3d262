package translate

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Service returns what Build has made of a Service, or nil for a Service outside the mesh.
func (t *Translator) Service(key mesh.Key) *mesh.Service {
	if built := t.services[key]; built != nil {
		return built.model
	}
	return nil
}

// Rules returns the rules of each port of a Service, by the port's number. A port without an attached route has no entry.
func (t *Translator) Rules(key mesh.Key) map[uint16]mesh.PortRules {
	if built := t.services[key]; built != nil {
		return built.rules
	}
	return nil
}

// Inputs returns what the rules of a Service are built from.
func (t *Translator) Inputs(key mesh.Key) mesh.RouteInputs {
	in, _ := t.inputs(key, buildCache{})
	return in
}

// Class returns a GatewayClass of our controller, or nil.
func (t *Translator) Class(name string) *gatewayv1.GatewayClass { return t.gateways.classes[name] }

// Gateways returns the Gateways of our controller, sorted.
func (t *Translator) Gateways() []mesh.Key {
	var out []mesh.Key
	for id := range t.objects {
		if id.Kind == mesh.KindGateway && t.ours(id.Key) != nil {
			out = append(out, id.Key)
		}
	}
	slices.SortFunc(out, mesh.Key.Compare)
	return out
}

// Gateway returns what the pods of one of Gateways serve, and what it is built from.
func (t *Translator) Gateway(key mesh.Key) (mesh.Gateway, mesh.GatewayInputs, error) {
	gw, seen := t.ours(key), buildCache{}
	out, err := t.buildGateway(gw, &builtGateway{}, seen)
	return out.model, t.gatewayInputs(gw, nil, seen), err
}
