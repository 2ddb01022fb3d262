package server

import (
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// warmingTimeout bounds the wait for a proxy to ask for and acknowledge the endpoints of clusters it
// was sent, before what refers to those clusters is sent all the same.
const warmingTimeout = 5 * time.Second

// resumeTime is how long nothing is removed from a proxy that comes back. It speaks of one type after the
// other, and what it has not spoken of yet may refer to what is gone.
const resumeTime = time.Second

// order is make before break: what is referred to comes before what refers to it. Listeners come last,
// because a new listener may send connections to the HTTP chain whose scope must be there by then.
// Endpoints and routes stand apart: endpoints wait for nothing but their own acknowledgement, and each
// route for its own clusters alone, so that one first call does not wait for another's.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#eventual-consistency-considerations
var order = []string{envoy.ClusterType, envoy.ScopedRouteType, envoy.ListenerType}

// advance sends all that can be sent now: what stands apart, then the types in order, each after the
// one before is acknowledged and warm, then removals in reverse.
func (s *stream) advance() error {
	s.takePending()
	s.needForRoutes()
	if err := s.sendHeldUp(); err != nil {
		return err
	}
	for _, typeURL := range order {
		if err := s.sendAdditions(typeURL); err != nil {
			return err
		}
		if typeURL == envoy.ClusterType {
			if err := s.sendApart(); err != nil {
				return err
			}
		}
		if s.waiting(typeURL) {
			if typeURL == envoy.ClusterType && s.heldUp == 0 {
				s.heldUp = s.nonce
			}
			return nil
		}
	}
	if s.resuming != nil || s.owesRoutes() {
		return nil
	}
	return s.sendRemovals()
}

// sendHeldUp sends scopes and listeners that have waited for clusters before it is further clusters' turn:
// first calls one after the other would hold them up for as long as they come. It is safe, because each
// route waits for its own clusters.
func (s *stream) sendHeldUp() error {
	clusters := s.subs[envoy.ClusterType]
	if s.heldUp == 0 || clusters.nonce != "" && clusters.number <= s.heldUp && !clusters.overdue {
		return nil
	}
	for _, number := range s.warming {
		if number <= s.heldUp {
			return nil
		}
	}
	for _, typeURL := range order[1:] {
		if err := s.sendAdditions(typeURL); err != nil {
			return err
		}
		if s.waiting(typeURL) {
			break
		}
	}
	s.heldUp = 0
	return nil
}

// sendApart sends endpoints, routes, and "does not exist" for types that Mizzen does not serve.
func (s *stream) sendApart() error {
	for typeURL := range s.subs {
		if slices.Contains(order, typeURL) {
			continue
		}
		if err := s.sendAdditions(typeURL); err != nil {
			return err
		}
	}
	return nil
}

// waiting reports whether what comes after a type must be held back.
func (s *stream) waiting(typeURL string) bool {
	sub := s.subs[typeURL]
	if sub != nil && sub.nonce != "" && !sub.overdue {
		return true
	}
	return typeURL == envoy.ClusterType && len(s.warming) > 0
}

func (s *stream) sendAdditions(typeURL string) error {
	sub := s.subs[typeURL]
	if sub == nil || sub.nonce != "" || s.unclassified(sub) {
		return nil
	}
	first, asked := sub.firstAnswer, len(sub.asked)
	set, missing, err := s.additions(sub)
	if err != nil || len(set) == 0 && len(missing) == 0 && !first {
		return err
	}
	why := causeChange
	demanded := func(e *entry) bool { return sub.demanded.has(e.name) }
	if first || len(sub.asked) < asked || slices.ContainsFunc(set, demanded) {
		why = causeSubscribe
	}
	if typeURL != envoy.ClusterType {
		return s.respond(sub, why, set, missing)
	}
	s.warm(set)
	if err := s.respond(sub, why, set, missing); err != nil {
		return err
	}
	s.resendEndpoints()
	return s.sendAdditions(envoy.EndpointType)
}

func (s *stream) sendRemovals() error {
	for _, typeURL := range []string{envoy.ListenerType, envoy.ScopedRouteType, envoy.RouteType, envoy.ClusterType, envoy.EndpointType} {
		if err := s.sendRemovalsOf(typeURL); err != nil || s.waiting(typeURL) {
			return err
		}
	}
	return nil
}

func (s *stream) sendRemovalsOf(typeURL string) error {
	sub := s.subs[typeURL]
	if sub == nil || sub.nonce != "" || typeURL == envoy.RouteType && s.scoped() {
		return nil
	}
	removed, err := s.removals(sub)
	if err != nil || len(removed) == 0 {
		return err
	}
	return s.respond(sub, causeChange, nil, removed)
}

// scoped reports whether the proxy learns of routes from scopes. Then it unsubscribes from a route by
// itself when the scope is gone, and before it acknowledges that; told that the route is gone it would
// do nothing.
func (s *stream) scoped() bool {
	scopes := s.subs[envoy.ScopedRouteType]
	return scopes != nil && scopes.all
}

// owesRoutes reports whether an answer about routes is awaited. When a scope goes, Envoy withdraws its
// demand for the routes, and a request that waits for them would wait on.
func (s *stream) owesRoutes() bool {
	routes := s.subs[envoy.RouteType]
	return routes != nil && s.scoped() && (routes.nonce != "" || len(routes.asked) > 0)
}

// warm notes the endpoints that clusters wait for. The wait is bounded from its beginning: further
// clusters do not prolong it.
func (s *stream) warm(clusters []*entry) {
	waiting := len(s.warming) > 0
	for _, e := range clusters {
		s.unacked.add(e.name)
		for _, endpoints := range e.references {
			s.warming[endpoints.Name] = s.nonce + 1 // the number that respond gives next
		}
	}
	if !waiting && len(s.warming) > 0 {
		s.warmingTimer.Reset(warmingTimeout)
	}
}

// ready reports whether a route's clusters are acknowledged and warm. A cluster that does not exist is
// not waited for.
func (s *stream) ready(route *entry) bool {
	clusters := s.subs[envoy.ClusterType]
	if clusters == nil {
		return !s.scoped() // Envoy is still to say which it has
	}
	if !clusters.all {
		return true
	}
	for _, id := range route.references {
		e := s.lookup(id)
		if e == nil {
			continue
		}
		if clusters.sent[id.Name] != e.version || s.unacked.has(id.Name) {
			return false
		}
		for _, endpoints := range e.references {
			if _, warming := s.warming[endpoints.Name]; warming || s.cold.has(endpoints.Name) {
				return false
			}
		}
	}
	return true
}

// warmed takes note of acknowledged endpoints.
func (s *stream) warmed(eds *subscription) {
	done := func(name string) {
		s.cold.remove(name)
		if eds.number > s.warming[name] {
			delete(s.warming, name)
		}
	}
	for _, e := range eds.inFlight {
		done(e.name)
	}
	for _, name := range eds.inFlightGone {
		done(name)
	}
	if len(s.warming) == 0 {
		s.warmingTimer.Stop()
	}
}

// resendEndpoints answers once more for clusters that are warming while the proxy's subscription to
// their endpoints is an older one. Envoy does not ask again for a name that it already watches, but a
// new or changed cluster waits for an answer, and the acknowledgement of the clusters waits for it too.
func (s *stream) resendEndpoints() {
	eds := s.subs[envoy.EndpointType]
	if eds == nil {
		return
	}
	for name, number := range s.warming {
		inFlight := eds.nonce != "" && eds.number > number && eds.holdsInFlight(name)
		if eds.wants(name) && !inFlight {
			eds.asked.add(name)
			eds.dirty.add(name)
		}
	}
}
