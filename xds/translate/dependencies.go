package translate

import (
	"iter"
	"maps"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// dependencies knows which Services must be built again when another object has changed. A Service's rules depend on the
// routes that name it as a parent, on their backends, and on the grants in the namespaces of these. The Service itself
// depends on the policies that target it.
type dependencies struct {
	routes             map[mesh.ID]mesh.RouteRefs
	byParent           multimap[mesh.Key, mesh.ID]
	byBackend          multimap[mesh.Key, mesh.ID]
	byBackendNamespace multimap[string, mesh.ID]
	// byGateway has the routes that name a Gateway or a ListenerSet as a parent.
	byGateway multimap[mesh.ID, mesh.ID]
	targets   map[mesh.ID][]mesh.Key // of each policy
	byTarget  multimap[mesh.Key, mesh.ID]
	refs      map[mesh.Key]endpointRefs // of the endpoints of each Service
	byPod     multimap[mesh.Key, mesh.Key]
	byAddr    multimap[netip.Addr, mesh.Key]
}

// endpointRefs are the pods that endpoints name, and the addresses that they have without naming one.
type endpointRefs struct {
	pods  []mesh.Key
	addrs []netip.Addr
}

// multimap has a set for each key, and no empty sets.
type multimap[K, V comparable] map[K]sets.Set[V]

func newDependencies() *dependencies {
	return &dependencies{
		routes:   map[mesh.ID]mesh.RouteRefs{},
		byParent: multimap[mesh.Key, mesh.ID]{}, byBackend: multimap[mesh.Key, mesh.ID]{},
		byBackendNamespace: multimap[string, mesh.ID]{}, byGateway: multimap[mesh.ID, mesh.ID]{},
		targets: map[mesh.ID][]mesh.Key{}, byTarget: multimap[mesh.Key, mesh.ID]{},
		refs: map[mesh.Key]endpointRefs{}, byPod: multimap[mesh.Key, mesh.Key]{}, byAddr: multimap[netip.Addr, mesh.Key]{},
	}
}

// setRoute records what a route names, nothing if the route is gone. It returns what the route named before.
func (d *dependencies) setRoute(id mesh.ID, now mesh.RouteRefs) (before mesh.RouteRefs) {
	before = d.routes[id]
	if len(now.Parents)+len(now.Gateways) == 0 {
		now = mesh.RouteRefs{} // the route belongs to others
	}
	for _, key := range before.Parents {
		d.byParent.delete(key, id)
	}
	for _, key := range before.Backends {
		d.byBackend.delete(key, id)
		d.byBackendNamespace.delete(key.Namespace, id)
	}
	for _, gateway := range before.Gateways {
		d.byGateway.delete(gateway, id)
	}
	for _, key := range now.Parents {
		d.byParent.insert(key, id)
	}
	for _, gateway := range now.Gateways {
		d.byGateway.insert(gateway, id)
	}
	for _, key := range now.Backends {
		d.byBackend.insert(key, id)
		d.byBackendNamespace.insert(key.Namespace, id)
	}
	if len(now.Parents)+len(now.Gateways) > 0 {
		d.routes[id] = now
	} else {
		delete(d.routes, id)
	}
	return before
}

// ofService returns the Services that depend on a Service: itself and the parents of routes that send to it.
func (d *dependencies) ofService(key mesh.Key) []mesh.Key {
	return append([]mesh.Key{key}, d.parents(d.byBackend[key])...)
}

// ofGrants returns the Services that depend on the grants of a namespace.
func (d *dependencies) ofGrants(namespace string) []mesh.Key {
	return d.parents(d.byBackendNamespace[namespace])
}

func (d *dependencies) parents(routes sets.Set[mesh.ID]) []mesh.Key {
	var out []mesh.Key
	for id := range routes {
		out = append(out, d.routes[id].Parents...)
	}
	return out
}

// setPolicy records the Services that a policy targets, none if the policy is gone. It returns the old and the new targets.
func (d *dependencies) setPolicy(policy mesh.ID, now []mesh.Key) []mesh.Key {
	before := d.targets[policy]
	for _, target := range before {
		d.byTarget.delete(target, policy)
	}
	for _, target := range now {
		d.byTarget.insert(target, policy)
	}
	d.targets[policy] = now
	if len(now) == 0 {
		delete(d.targets, policy)
	}
	return slices.Concat(before, now)
}

// setPods records the pods that the endpoints of a Service name, and the addresses of endpoints that name none.
func (d *dependencies) setPods(service mesh.Key, pods []mesh.Key, addrs []netip.Addr) {
	before := d.refs[service]
	for _, pod := range before.pods {
		d.byPod.delete(pod, service)
	}
	for _, addr := range before.addrs {
		d.byAddr.delete(addr, service)
	}
	for _, pod := range pods {
		d.byPod.insert(pod, service)
	}
	for _, addr := range addrs {
		d.byAddr.insert(addr, service)
	}
	d.refs[service] = endpointRefs{pods, addrs}
	if len(pods)+len(addrs) == 0 {
		delete(d.refs, service)
	}
}

// ofPod returns the Services whose endpoints name a pod. ofAddr returns those with an endpoint that has an address without
// naming a pod.
func (d *dependencies) ofPod(pod mesh.Key) sets.Set[mesh.Key]     { return d.byPod[pod] }
func (d *dependencies) ofAddr(addr netip.Addr) sets.Set[mesh.Key] { return d.byAddr[addr] }

// policiesOf returns the policies that target a Service.
func (d *dependencies) policiesOf(target mesh.Key) sets.Set[mesh.ID] { return d.byTarget[target] }

// routesOf returns the routes that name a Service as a parent.
func (d *dependencies) routesOf(parent mesh.Key) sets.Set[mesh.ID] { return d.byParent[parent] }

func (m multimap[K, V]) insert(key K, value V) {
	if m[key] == nil {
		m[key] = sets.Set[V]{}
	}
	m[key].Insert(value)
}

func (m multimap[K, V]) delete(key K, value V) {
	m[key].Delete(value)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}

// byNamespace has objects of a kind, of each namespace by name.
type byNamespace[T any] map[string]map[mesh.Key]T

func (n byNamespace[T]) set(key mesh.Key, value T) {
	if n[key.Namespace] == nil {
		n[key.Namespace] = map[mesh.Key]T{}
	}
	n[key.Namespace][key] = value
}

func (n byNamespace[T]) delete(key mesh.Key) {
	delete(n[key.Namespace], key)
	if len(n[key.Namespace]) == 0 {
		delete(n, key.Namespace)
	}
}

// of returns the objects in a namespace, in no order.
func (n byNamespace[T]) of(namespace string) iter.Seq[T] { return maps.Values(n[namespace]) }
