package translate

import (
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A Service and its EndpointSlices are joined by the names of ports, and each kind has a watch of its own. So for a moment after a
// change the two may not fit: the last EndpointSlice of a deleted Service may be gone before the Service is, and before a route that has
// sent there; ports with new names may be heard of in the Service or in the slices first, and the slices are written after the Service.
// Nobody has said then that the Service has no endpoints. What is published stays, until the other side is heard of.
//
//   - Where the slices were first, the Service is held for Build (publishEndpoints), which goes by what there is.
//   - Where the Service was first, Build leaves it as it is (setLagging), until its slices change or Overdue.

// lost reports whether a port that has endpoints as published would have none as a model and endpoints are now, although no
// EndpointSlice says that it has none.
func (t *Translator) lost(published *builtService, model *mesh.Service, now serviceEndpoints) bool {
	return slices.ContainsFunc(published.served, func(p servedPort) bool {
		return !slices.Contains(now.served, p) && !t.said(model, p)
	})
}

// said reports whether the EndpointSlices of a Service say which endpoints a port has. A Service without pods keeps a slice, which
// names no ports.
func (t *Translator) said(model *mesh.Service, p servedPort) bool {
	ports, family := model.Ports, discoveryv1.AddressTypeIPv4
	if p.udp {
		ports = model.UDP
	}
	if p.ipv6 {
		family = discoveryv1.AddressTypeIPv6
	}
	i := slices.IndexFunc(ports, func(port mesh.Port) bool { return port.Number == p.number })
	if i < 0 {
		return true // the Service itself does not have it any more
	}
	some, endpoints := false, false
	for _, slice := range t.slices[model.Key] {
		if slice.AddressType != family {
			continue
		}
		if slices.ContainsFunc(slice.Ports, func(port discoveryv1.EndpointPort) bool {
			return port.Name != nil && *port.Name == ports[i].Name || port.Name == nil && ports[i].Name == ""
		}) {
			return true
		}
		some, endpoints = true, endpoints || len(slice.Endpoints) > 0
	}
	return some && !endpoints
}

// setLagging takes the Services off those that are held whose ports have new names that their EndpointSlices do not have yet.
func (t *Translator) setLagging() {
	for key := range t.held {
		published, now := t.services[key], t.parsed[key].model
		if published == nil || now == nil || t.overdue.Has(key) || slices.Equal(now.Ports, published.model.Ports) {
			continue
		}
		if t.lost(published, now, t.endpointsOf(now)) {
			t.held.Delete(key)
			t.lagging.Insert(key)
		}
	}
}

// Lagging reports whether Build has left Services as they are because their EndpointSlices do not fit.
func (t *Translator) Lagging() bool { return len(t.lagging) > 0 }

// Overdue has the next Build build the Services that lag, whatever their EndpointSlices say.
func (t *Translator) Overdue() {
	for key := range t.lagging {
		t.overdue.Insert(key)
		t.hold(key)
	}
}
