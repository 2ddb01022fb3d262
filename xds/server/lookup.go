package server

import (
	"time"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// lookup finds the resource that one proxy is to have under a name. It knows the things by which proxies differ:
//
//   - The variant, by IP family, node, zone and namespace.
//   - The pod's class, for envoy.InboundListener. The proxy asks for that name like for any other, and the store
//     reports a change of the class. A proxy must not choose what its pod accepts.
//   - Whether the proxy may ask for one more resource that is made on demand.
//   - The owner. What belongs to a gateway does not exist for any other proxy, whatever name the proxy asks for.
type lookup struct {
	store *Store
	node  *node.Node
	// classes is true if every pod has a class, known or not yet.
	classes bool
	watches *watches
	demands *demands
}

// entry returns what the proxy is to have under a name, or nil.
func (l *lookup) entry(id envoy.ID) *entry {
	if id.Type == envoy.ScopedRouteType {
		if !l.demands.wants(id.Name) {
			return nil
		}
		return scopeEntry(id.Name)
	}
	r := l.record(id)
	if r == nil {
		return nil
	}
	return r.entry(envoy.Variants(envoy.ID{Type: id.Type, Name: r.name}, *l.node, l.store.zone(l.node.NodeName))...)
}

// scopeEntry returns the scope of this name. A scope is a function of its name, so the store has none.
func scopeEntry(name string) *entry {
	e, err := newEntry(envoy.Scope(name), time.Time{})
	if err != nil { // the name is not UTF-8, which gRPC would not have let through
		return nil
	}
	return e
}

// isScope reports whether a version is that of scopeEntry.
func isScope(name, version string) bool {
	e := scopeEntry(name)
	return e != nil && e.version == version
}

// record returns what exists under a name for the proxy, in all variants, or nil.
func (l *lookup) record(id envoy.ID) *record {
	if l.classed(id) {
		return l.store.recordOfClass(id, l.node.Of())
	}
	if !l.watches.awaits(id) && l.store.madeOnDemand(id) {
		return nil // beyond the proxy's bound
	}
	if r := l.store.record(id); r != nil && r.visibleTo(envoy.OwnerOf(*l.node)) {
		return r
	}
	return nil
}

// classed reports whether the resource under a name depends on the class.
func (l *lookup) classed(id envoy.ID) bool {
	return l.needsInbound(id.Type) && id == envoy.InboundListener
}

// exists reports whether there is, or may be, something under a name. A proxy keeps what it has while its pod's class
// is not known, and while a resource on demand is not made. A class always has a resource.
func (l *lookup) exists(id envoy.ID) bool {
	if id.Type == envoy.ScopedRouteType {
		return l.demands.wants(id.Name)
	}
	return l.classed(id) || l.watches.awaits(id) || l.record(id) != nil
}

// needsInbound reports whether a proxy that asks for everything of a type needs the inbound listener of its class.
func (l *lookup) needsInbound(typeURL string) bool {
	return l.classes && typeURL == envoy.InboundListener.Type && !l.node.Gateway
}

// unknown reports whether the first answer of a type has to wait: that with the listeners of a sidecar for the pod's class,
// and that with the listeners of a gateway for the first of them. Envoy takes a first answer as complete. It would refuse
// connections to its pod, and call itself ready. A gateway without listeners that is not ready gets no connections, and a rollout
// that would bring it does not go on.
func (l *lookup) unknown(typeURL string) bool {
	if l.node.Gateway {
		return typeURL == envoy.ListenerType && len(l.store.owned(typeURL, envoy.OwnerOf(*l.node))) == 0
	}
	return l.needsInbound(typeURL) && l.store.class(l.node.Of()) == ""
}
