package translate

import (
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
