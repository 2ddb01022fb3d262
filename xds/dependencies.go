package xds

import (
	"slices"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// dependencies tells which Services are to be built again when another object has changed: a Service's
// rules depend on the routes that name it as a parent, on their backends, and on the grants in the
// namespaces of these.
type dependencies struct {
	routes             map[mesh.RouteID]mesh.RouteRefs
	byParent           multimap[mesh.Key]
	byBackend          multimap[mesh.Key]
	byBackendNamespace multimap[string]
}

// multimap has a set of routes for each key; a key without routes is not there.
type multimap[K comparable] map[K]sets.Set[mesh.RouteID]

func newDependencies() *dependencies {
	return &dependencies{
		routes:   map[mesh.RouteID]mesh.RouteRefs{},
		byParent: multimap[mesh.Key]{}, byBackend: multimap[mesh.Key]{}, byBackendNamespace: multimap[string]{},
	}
}

// setRoute takes what a route names now, nothing if it is gone. It gives the parents that depend on it: those
// that it names now and those that it named before.
func (d *dependencies) setRoute(id mesh.RouteID, now mesh.RouteRefs) []mesh.Key {
	before := d.routes[id]
	if len(now.Parents) == 0 {
		now = mesh.RouteRefs{} // a Gateway's
	}
	for _, key := range before.Parents {
		d.byParent.delete(key, id)
	}
	for _, key := range before.Backends {
		d.byBackend.delete(key, id)
		d.byBackendNamespace.delete(key.Namespace, id)
	}
	for _, key := range now.Parents {
		d.byParent.insert(key, id)
	}
	for _, key := range now.Backends {
		d.byBackend.insert(key, id)
		d.byBackendNamespace.insert(key.Namespace, id)
	}
	if len(now.Parents) > 0 {
		d.routes[id] = now
	} else {
		delete(d.routes, id)
	}
	return slices.Concat(before.Parents, now.Parents)
}

// ofService gives the Services that depend on a Service: itself and the parents of routes that send to it.
func (d *dependencies) ofService(key mesh.Key) []mesh.Key {
	return append([]mesh.Key{key}, d.parents(d.byBackend[key])...)
}

// ofGrants gives the Services that depend on the grants of a namespace.
func (d *dependencies) ofGrants(namespace string) []mesh.Key {
	return d.parents(d.byBackendNamespace[namespace])
}

func (d *dependencies) parents(routes sets.Set[mesh.RouteID]) []mesh.Key {
	var out []mesh.Key
	for id := range routes {
		out = append(out, d.routes[id].Parents...)
	}
	return out
}

// routesOf gives the routes that name a Service as a parent.
func (d *dependencies) routesOf(parent mesh.Key) sets.Set[mesh.RouteID] { return d.byParent[parent] }

func (m multimap[K]) insert(key K, id mesh.RouteID) {
	if m[key] == nil {
		m[key] = sets.Set[mesh.RouteID]{}
	}
	m[key].Insert(id)
}

func (m multimap[K]) delete(key K, id mesh.RouteID) {
	m[key].Delete(id)
	if len(m[key]) == 0 {
		delete(m, key)
	}
}
