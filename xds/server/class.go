package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// The class of a pod decides which resource its proxy has under a name that all have, envoy.InboundListener: what a
// pod takes is not its own proxy's to say. The stream asks for the name, and the store tells it when the class
// changes; what is there for a class never changes.

// record gives what there is for this proxy under a name, nil if nothing.
func (s *stream) record(id envoy.ID) *record {
	if s.classed(id) {
		return s.store.recordOfClass(id, s.node.Of())
	}
	if !s.awaits(id) && s.store.makes(id) {
		return nil // one too many
	}
	return s.store.record(id)
}

// classed reports whether what there is under a name depends on the class.
func (s *stream) classed(id envoy.ID) bool { return s.classified && id == envoy.InboundListener }

// exists reports whether there is something, or may be: of a pod that is not known, or not any more, the proxy keeps
// what it has, as it does of what is not made. A class always has a resource.
func (s *stream) exists(id envoy.ID) bool {
	return s.classed(id) || s.awaits(id) || s.record(id) != nil
}

// unclassified reports whether a first answer has to wait: Envoy takes it for all that there is, and would refuse
// connections to its pod.
func (s *stream) unclassified(sub *subscription) bool {
	return s.classified && sub.typeURL == envoy.InboundListener.Type && sub.firstAnswer && s.store.class(s.node.Of()) == ""
}
