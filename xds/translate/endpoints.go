package translate

import (
	"cmp"
	"maps"
	"slices"

	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// serviceEndpoints are the endpoints of all ports of a Service.
type serviceEndpoints struct {
	resources  []envoy.Resource
	identities []string
	served     []servedPort // those with endpoints
	problems   []mesh.Problem
}

// servedPort is a port of a Service in one family.
type servedPort struct {
	number    uint16
	ipv6, udp bool
}

func (t *Translator) setSlice(o *discoveryv1.EndpointSlice) {
	key := mesh.Key{Namespace: o.Namespace, Name: o.Name}
	service := mesh.Key{Namespace: o.Namespace, Name: o.Labels[discoveryv1.LabelServiceName]}
	if t.serviceOf[key] != service {
		t.deleteSlice(key)
	}
	t.serviceOf[key] = service
	if t.slices[service] == nil {
		t.slices[service] = map[mesh.Key]*discoveryv1.EndpointSlice{}
	}
	t.slices[service][key] = o
	t.slicesChanged(service)
}

func (t *Translator) deleteSlice(key mesh.Key) {
	service, ok := t.serviceOf[key]
	if !ok {
		return
	}
	delete(t.serviceOf, key)
	if delete(t.slices[service], key); len(t.slices[service]) == 0 {
		delete(t.slices, service)
	}
	t.slicesChanged(service)
}

func (t *Translator) slicesChanged(service mesh.Key) {
	t.changed.endpoints.Insert(service)
	if t.lagging.Has(service) {
		t.hold(service)
	}
	t.gatewayPodsChanged(service)
}

// setZone sets the zone of a Kubernetes node; "" if it has none.
func (t *Translator) setZone(name, zone string) {
	if t.zones[name] == zone {
		return
	}
	if t.zones[name] = zone; zone == "" {
		delete(t.zones, name)
	}
	t.changed.zones[name] = zone
}

// slicesOf returns the EndpointSlices of a Service, sorted by name.
func (t *Translator) slicesOf(service mesh.Key) []*discoveryv1.EndpointSlice {
	return slices.SortedFunc(maps.Values(t.slices[service]), func(a, b *discoveryv1.EndpointSlice) int { return cmp.Compare(a.Name, b.Name) })
}

// updateRefs updates which pods and addresses the changed Services refer to, and adds Services with an endpoint at a changed
// address.
func (t *Translator) updateRefs() {
	if t.pods == nil {
		return
	}
	for service := range t.changed.endpoints {
		own := t.slicesOf(service)
		t.depend.setPods(service, mesh.PodRefs(own), t.pods.PodAddrs(own))
	}
	for ip := range t.changed.addrs {
		t.changed.endpoints.Insert(t.depend.ofAddr(ip).UnsortedList()...)
	}
}

func (t *Translator) endpointsOf(svc *mesh.Service) serviceEndpoints {
	byPort, problems := mesh.Endpoints(svc, t.slicesOf(svc.Key), t.pods)
	out := serviceEndpoints{identities: mesh.Identities(byPort), problems: problems}
	for key, endpoints := range byPort {
		if len(endpoints) > 0 {
			out.served = append(out.served, servedPort{key.Port, key.Family == mesh.IPv6, key.UDP})
		}
		out.resources = append(out.resources, envoy.EndpointResources(svc, key, endpoints)...)
	}
	return out
}

// publishEndpoints adds the endpoints of known Services. Those of a Service that is being built come with it.
func (t *Translator) publishEndpoints(r *Result, building bool) {
	now := map[mesh.Key]serviceEndpoints{}
	for key := range t.changed.endpoints {
		built := t.services[key]
		if built == nil || t.waitsForBuild(built.model) {
			continue // Build publishes its endpoints together with it
		}
		endpoints := t.endpointsOf(built.model)
		if t.lost(built, built.model, endpoints) {
			t.hold(key)
			continue
		}
		if !within(endpoints.identities, built.model.Identities) {
			t.hold(t.depend.ofService(key)...) // its clusters and those of its mirrors must know the identities first
			continue
		}
		now[key] = endpoints
	}
	for key, endpoints := range now {
		if building && t.held.Has(key) {
			continue
		}
		built := t.services[key]
		r.Change.Set = append(r.Change.Set, endpoints.resources...)
		built.endpointProblems, built.served = endpoints.problems, endpoints.served
		t.changed.problems[mesh.ID{Kind: mesh.KindService, Key: key}] = built.allProblems()
	}
}

// waitsForBuild reports whether the endpoints of a held Service wait for Build. Those of a deleted Service wait, because held
// routes may still send to it. Endpoints also wait when ports have changed, because the published ports would not match the
// new names.
func (t *Translator) waitsForBuild(published *mesh.Service) bool {
	if !t.held.Has(published.Key) && !t.lagging.Has(published.Key) {
		return false
	}
	now := t.parsed[published.Key].model
	return now == nil || !slices.Equal(now.Ports, published.Ports)
}

// within reports whether all of a are in b.
func within[T comparable](a, b []T) bool {
	return sets.New(b...).HasAll(a...)
}
