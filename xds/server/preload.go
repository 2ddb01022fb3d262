package server

import (
	"iter"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// PreloadBounds bound what a proxy is sent before it asks. Everything else is sent at the first call.
type PreloadBounds struct {
	// WholeMesh is the number of Service ports up to which every proxy is sent all of them.
	WholeMesh int
	// Namespace is the number of Service ports up to which a proxy is sent those of its own namespace.
	Namespace int
}

// preload decides what one proxy is sent before it asks.
type preload struct {
	store  *Store
	usage  *usage
	node   *node.Node
	bounds PreloadBounds
}

// preloaded says what a proxy is sent before it asks, at one moment.
type preloaded struct {
	// owner is the gateway whose resources are sent, and no others; empty for a sidecar.
	owner      string
	everything bool
	namespace  string
	// used is what pods of the same workload have asked for.
	used map[envoy.ID]struct{}
}

// now returns what is preloaded at this moment.
func (p *preload) now() preloaded {
	out := p.bounded()
	if !p.node.Gateway && p.node.ConfigScope != config.ScopeAll && p.node.ConfigScope != config.ScopeDemand {
		out.used = p.usage.of(*p.node)
	}
	return out
}

// bounded is now without what others have asked for.
func (p *preload) bounded() preloaded {
	if p.node.Gateway {
		return preloaded{owner: envoy.OwnerOf(*p.node)}
	}
	switch p.node.ConfigScope {
	case config.ScopeAll:
		return preloaded{everything: true}
	case config.ScopeNamespace:
		return preloaded{namespace: p.node.Namespace}
	case config.ScopeDemand:
		return preloaded{}
	}
	var out preloaded
	all, own := p.store.portCount(p.node.Namespace)
	out.everything = all <= p.bounds.WholeMesh
	if own <= p.bounds.Namespace {
		out.namespace = p.node.Namespace
	}
	return out
}

// names yields the names that are preloaded of a type. A name may come twice.
func (p *preload) names(typeURL string) iter.Seq[string] {
	return func(yield func(string) bool) {
		now := p.now()
		namespaces := []string{"", now.namespace}
		if now.everything {
			namespaces = []string{wildcard}
		}
		if now.owner != "" {
			for _, name := range p.store.owned(typeURL, now.owner) {
				if !yield(name) {
					return
				}
			}
			return
		}
		for _, namespace := range namespaces {
			for _, name := range p.store.preloadable(typeURL, namespace) {
				if !yield(name) {
					return
				}
			}
		}
		for id := range now.used {
			r := p.store.record(id)
			if r == nil || !r.visibleTo(now.owner) {
				continue
			}
			if id.Type == typeURL && !yield(id.Name) {
				return
			}
			for _, v := range r.variants {
				for _, ref := range v.references {
					if ref.Type == typeURL && !yield(ref.Name) {
						return
					}
				}
			}
		}
	}
}

// includes reports whether a resource is preloaded at this moment.
func (p *preload) includes(id envoy.ID) bool {
	r := p.store.record(id)
	return r != nil && p.now().has(id.Type, r)
}

// scopes yields the destinations of which the scopes are preloaded, and with them the routes. One may come twice.
func (p *preload) scopes() iter.Seq[string] {
	return func(yield func(string) bool) {
		for name := range p.names(envoy.RouteType) {
			if r := p.store.record(envoy.ID{Type: envoy.RouteType, Name: name}); r != nil && !r.lazy && !yield(name) {
				return
			}
		}
	}
}

// noteUse remembers what the proxy asks for, to preload it to other pods of the workload. Two kinds of requests are
// left out. Envoy asks for the routes of preloaded scopes at once, without a call. Resources that are made on demand
// are too many and too short-lived to be of use to the next pod.
func (p *preload) noteUse(id envoy.ID) {
	if !tracked(*p.node, id) || p.store.madeOnDemand(id) {
		return
	}
	if r := p.store.record(id); r != nil && r.owner == "" && !p.bounded().has(id.Type, r) {
		p.usage.note(*p.node, id)
	}
}

// has reports whether a resource is preloaded: a cluster, or routes together with their scope.
func (p preloaded) has(typeURL string, r *record) bool {
	if r.lazy || r.owner != p.owner {
		return false
	}
	if p.owner != "" {
		return true
	}
	if r.namespace == "" || p.everything || r.namespace == p.namespace {
		return true
	}
	if len(p.used) == 0 {
		return false
	}
	_, used := p.used[envoy.ID{Type: typeURL, Name: r.name}]
	return used
}
