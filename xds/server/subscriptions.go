package server

import (
	"maps"
	"slices"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// subscriptions are all subscriptions of one stream. They also know which names the proxy needs without having
// subscribed to them, and they keep the stream's watches in step with the names.
type subscriptions struct {
	byType  map[string]*subscription
	watches *watches
	lookup  *lookup
	// virtualHosts are those of the route configurations of a gateway.
	virtualHosts virtualHosts
	// last is the number of the last response of any type.
	last uint64
}

// of returns the subscription of a type, or nil.
func (s *subscriptions) of(typeURL string) *subscription { return s.byType[typeURL] }

// open returns the subscription of a type. first is true if this call made it.
func (s *subscriptions) open(typeURL string) (sub *subscription, first bool) {
	if sub := s.byType[typeURL]; sub != nil {
		return sub, false
	}
	sub = newSubscription(typeURL)
	s.byType[typeURL] = sub
	return sub, true
}

// allowed checks a request against the limits of a stream, on which some destinations have been asked for.
func (s *subscriptions) allowed(req *discoveryv3.DeltaDiscoveryRequest, asked int) error {
	long := func(name string) bool { return len(name) > maxName }
	tooLong := long(req.TypeUrl) || slices.ContainsFunc(req.ResourceNamesSubscribe, long)
	for name := range req.InitialResourceVersions {
		tooLong = tooLong || long(name)
	}
	if tooLong {
		return status.Errorf(codes.ResourceExhausted, "a name may have %d bytes", maxName)
	}
	if s.of(req.TypeUrl) == nil && len(s.byType) >= maxTypes {
		return status.Errorf(codes.ResourceExhausted, "a stream may subscribe to %d resource types", maxTypes)
	}
	n := asked + len(req.ResourceNamesSubscribe) + len(req.InitialResourceVersions)
	for _, sub := range s.byType {
		n += sub.size()
	}
	if n > maxNames {
		return status.Errorf(codes.ResourceExhausted, "a stream may have %d names, this would be %d", maxNames, n)
	}
	return nil
}

// subscribe adds a name that the proxy asks for. held is true if the proxy has some version of it: then it expects
// an answer only if that differs.
func (s *subscriptions) subscribe(sub *subscription, name string, held bool) {
	sub.names.add(name)
	sub.dirty.add(name)
	if !held {
		sub.asked.add(name)
	}
	s.watches.add(envoy.ID{Type: sub.typeURL, Name: name})
}

// unsubscribe drops a name that the proxy asked for. The proxy forgets the resource, unless the server needs it.
func (s *subscriptions) unsubscribe(sub *subscription, name string) {
	sub.names.remove(name)
	sub.asked.remove(name)
	if sub.needed.has(name) && sub.all {
		return
	}
	delete(sub.sent, name)
	sub.dirty.remove(name)
	s.watches.remove(envoy.ID{Type: sub.typeURL, Name: name})
}

// unsubscribeAll ends a subscription to everything of a type.
func (s *subscriptions) unsubscribeAll(sub *subscription) {
	sub.all = false
	for needed := range sub.needed {
		s.release(sub, needed)
	}
}

// need adds a name that the proxy gets without having subscribed to it.
func (s *subscriptions) need(sub *subscription, name string) {
	if sub.needed.has(name) {
		return
	}
	sub.needed.add(name)
	sub.dirty.add(name)
	s.watches.add(envoy.ID{Type: sub.typeURL, Name: name})
}

// needOnRequest is need for a name that is sent because of a request, not because of a change.
func (s *subscriptions) needOnRequest(sub *subscription, name string) {
	if !sub.needed.has(name) {
		sub.requested.add(name)
		s.need(sub, name)
	}
}

// release is the opposite of need.
func (s *subscriptions) release(sub *subscription, name string) {
	if !sub.needed.has(name) {
		return
	}
	sub.needed.remove(name)
	sub.requested.remove(name)
	if !sub.names.has(name) {
		s.watches.remove(envoy.ID{Type: sub.typeURL, Name: name})
	}
}

// needClusters adds the clusters of routes that are about to be sent, if the proxy leaves the choice of its clusters
// to the server. Those of demanded destinations are sent before the proxy asks for the routes. A proxy keeps such a
// cluster while the cluster exists: Envoy does not forget a route that it asked for, and a call that worked must go on
// working without the control plane. A gateway also needs those of its listeners.
func (s *subscriptions) needClusters(demanded set) {
	clusters := s.of(envoy.ClusterType)
	if clusters == nil || !clusters.all {
		return
	}
	for destination := range demanded {
		s.needClustersOf(clusters, envoy.ID{Type: envoy.RouteType, Name: destination})
	}
	for _, typeURL := range referring {
		if sub := s.of(typeURL); sub != nil {
			for name := range sub.dirty {
				if sub.wants(name) {
					s.needClustersOf(clusters, envoy.ID{Type: typeURL, Name: name})
				}
			}
		}
	}
}

// referring are the types that refer to clusters.
var referring = []string{envoy.RouteType, envoy.VirtualHostType, envoy.ListenerType}

func (s *subscriptions) needClustersOf(clusters *subscription, id envoy.ID) {
	if e := s.lookup.entry(id); e != nil {
		for _, cluster := range e.references {
			s.needOnRequest(clusters, cluster.Name)
		}
	}
}

// referred returns the clusters to which routes and listeners refer that the proxy holds. The proxy needs them even while they do not
// exist.
func (s *subscriptions) referred() set {
	var out set
	for _, typeURL := range referring {
		sub := s.of(typeURL)
		if sub == nil {
			continue
		}
		for name := range sub.sent {
			if e := s.lookup.entry(envoy.ID{Type: typeURL, Name: name}); e != nil {
				for _, id := range e.references {
					out.add(id.Name)
				}
			}
		}
	}
	return out
}

// scoped reports whether the proxy learns of routes from scopes. Such a proxy unsubscribes from a route by itself
// when the scope is gone, and does so before it acknowledges that. If it were told that the route is gone, it would do
// nothing.
func (s *subscriptions) scoped() bool {
	scopes := s.of(envoy.ScopedRouteType)
	return scopes != nil && scopes.all
}

// hasNoRemovals reports whether the proxy is not told what is gone of a type: routes, if it is scoped.
func (s *subscriptions) hasNoRemovals(sub *subscription) bool {
	return sub.typeURL == envoy.RouteType && s.scoped()
}

// dirty counts the names to look at again.
func (s *subscriptions) dirty() int {
	n := 0
	for _, sub := range s.byType {
		n += len(sub.dirty)
	}
	return n
}

// watched returns all names that may be watched, by type.
func (s *subscriptions) watched() map[string][]string {
	names := map[string][]string{}
	for typeURL, sub := range s.byType {
		names[typeURL] = slices.AppendSeq(slices.Collect(maps.Keys(sub.names)), maps.Keys(sub.needed))
	}
	names[envoy.VirtualHostType] = slices.AppendSeq(names[envoy.VirtualHostType], maps.Keys(s.virtualHosts.of))
	return names
}
