package server

import (
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Ahead bounds what a proxy is sent before it asks. All else is sent at the first call.
type Ahead struct {
	// WholeMesh is the number of Service ports up to which every proxy is sent all.
	WholeMesh int
	// Namespace is the number of Service ports up to which a proxy is sent its own namespace.
	Namespace int
}

// sentAhead says what one proxy is sent ahead at this moment. Beyond what it names, that is what pods of
// the same workload have asked for.
type sentAhead struct {
	everything bool
	namespace  string
	used       map[envoy.ID]struct{}
}

func (s *stream) sentAhead() sentAhead {
	p := s.bounds()
	if s.node.ConfigScope != config.ScopeAll && s.node.ConfigScope != config.ScopeDemand {
		p.used = s.usage.of(s.node)
	}
	return p
}

// bounds is sentAhead without what others have asked for.
func (s *stream) bounds() sentAhead {
	switch s.node.ConfigScope {
	case config.ScopeAll:
		return sentAhead{everything: true}
	case config.ScopeNamespace:
		return sentAhead{namespace: s.node.Namespace}
	case config.ScopeDemand:
		return sentAhead{}
	}
	var p sentAhead
	all, own := s.store.portCount(s.node.Namespace)
	p.everything = all <= s.ahead.WholeMesh
	if own <= s.ahead.Namespace {
		p.namespace = s.node.Namespace
	}
	return p
}

// ahead reports whether a resource is sent before it is asked for: a cluster, or a scope together with
// the routes that it names.
func (p sentAhead) ahead(typeURL string, r *record) bool {
	if r.lazy {
		return false
	}
	if r.namespace == "" || p.everything || r.namespace == p.namespace {
		return true
	}
	if len(p.used) == 0 {
		return false
	}
	if _, used := p.used[envoy.ID{Type: typeURL, Name: r.name}]; used {
		return true
	}
	for _, v := range r.variants {
		for _, id := range v.references {
			if _, used := p.used[id]; used {
				return true
			}
		}
	}
	return false
}

// needAhead starts what a proxy needs of a type that is not followed: what everybody has, and what is
// sent ahead.
func (s *stream) needAhead(sub *subscription) {
	p := s.sentAhead()
	namespaces := []string{"", p.namespace}
	if p.everything {
		namespaces = []string{wildcard}
	}
	for _, ns := range namespaces {
		for _, name := range s.store.aheadIn(sub.typeURL, ns) {
			s.demand(sub, name)
		}
	}
	if s.classified && sub.typeURL == envoy.InboundListener.Type {
		s.demand(sub, envoy.InboundListener.Name)
	}
	for id := range p.used {
		r := s.store.record(id)
		if r == nil {
			continue
		}
		if id.Type == sub.typeURL {
			s.demand(sub, id.Name)
		}
		for _, v := range r.variants {
			for _, ref := range v.references {
				if ref.Type == sub.typeURL {
					s.demand(sub, ref.Name)
				}
			}
		}
	}
}

// offer takes a new resource if the proxy is to have it ahead.
func (s *stream) offer(sub *subscription, id envoy.ID) {
	if r := s.store.record(id); r != nil && s.sentAhead().ahead(id.Type, r) {
		s.need(sub, id.Name)
	}
}

// needForRoutes adds the clusters of routes that are on their way to a proxy that leaves the choice of
// its clusters to us. What a proxy has once got it keeps while it exists: Envoy does not forget a
// route that it asked for, and a call that worked goes on working without the control plane.
func (s *stream) needForRoutes() {
	clusters, routes := s.subs[envoy.ClusterType], s.subs[envoy.RouteType]
	if clusters == nil || !clusters.all || routes == nil {
		return
	}
	for name := range routes.dirty {
		e := s.lookup(envoy.ID{Type: envoy.RouteType, Name: name})
		if e == nil || !routes.wants(name) {
			continue
		}
		for _, cluster := range e.references {
			s.demand(clusters, cluster.Name)
		}
	}
}

// demand is need for what is sent although nothing changed.
func (s *stream) demand(sub *subscription, name string) {
	if !sub.needed.has(name) {
		sub.demanded.add(name)
		s.need(sub, name)
	}
}

// need makes a name one that the proxy gets without having subscribed to it.
func (s *stream) need(sub *subscription, name string) {
	if sub.needed.has(name) {
		return
	}
	sub.needed.add(name)
	sub.dirty.add(name)
	s.watch(envoy.ID{Type: sub.typeURL, Name: name})
}

// referred reports whether a route that the proxy holds refers to a cluster. Then the cluster is needed even
// while it does not exist.
func (s *stream) referred(cluster string) bool {
	routes := s.subs[envoy.RouteType]
	if routes == nil {
		return false
	}
	id := envoy.ID{Type: envoy.ClusterType, Name: cluster}
	for name := range routes.sent {
		if e := s.lookup(envoy.ID{Type: envoy.RouteType, Name: name}); e != nil && slices.Contains(e.references, id) {
			return true
		}
	}
	return false
}

// release ends a need.
func (s *stream) release(sub *subscription, name string) {
	if !sub.needed.has(name) {
		return
	}
	sub.needed.remove(name)
	sub.demanded.remove(name)
	if !sub.names.has(name) {
		s.unwatch(envoy.ID{Type: sub.typeURL, Name: name})
	}
}

// absent gives what a proxy is told of a name that it subscribed to and that does not exist: nil for
// "removed". Envoy hears "removed" as no answer for what it asked for on demand: the request would wait
// on. So it gets a route configuration without routes or a cluster without endpoints; not for every name
// that a stranger may think of, because Envoy keeps them.
func (s *stream) absent(sub *subscription, name string) *entry {
	var r envoy.Resource
	switch {
	case sub.typeURL == envoy.RouteType && s.scoped():
		r = envoy.NoRoutes(name)
	case sub.typeURL == envoy.ClusterType && sub.all && sub.names.has(name):
		r = envoy.NoEndpoints(name)
	default:
		return nil
	}
	if !s.absents.has(name) && len(s.absents) >= maxAbsent {
		return nil
	}
	s.absents.add(name)
	e, err := newEntry(r, time.Time{})
	if err != nil { // the name is not UTF-8, which gRPC would not have let through
		s.log.Error(err, "a name that cannot be answered")
		return nil
	}
	return e
}
