package server

import (
	"slices"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// order is make before break: a resource is sent before those that refer to it. Listeners come last, because a new
// listener may send connections to the HTTP chain, whose scopes must be there by then.
//
// Endpoints, scopes, routes, virtual hosts and secrets stand apart. Routes and virtual hosts aside, they wait only for the
// acknowledgement of earlier ones. A route waits only for its own clusters, so that one first call does not wait for another's, and a
// virtual host for its route configuration, too.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#eventual-consistency-considerations
var order = []string{envoy.ClusterType, envoy.ListenerType}

// removalOrder is the reverse, for all types that Mizzen serves to Envoy.
var removalOrder = []string{envoy.ListenerType, envoy.ScopedRouteType, envoy.RouteType, envoy.VirtualHostType, envoy.ClusterType, envoy.EndpointType, envoy.SecretType}

// ordering decides which types may be sent to a proxy now.
type ordering struct {
	subs       *subscriptions
	lookup     *lookup
	warming    *warming
	resumption *resumption
	// heldUp is the number of the last response when listeners began to wait for clusters and scopes; 0 if they do not wait.
	heldUp uint64
}

// sender sends what is new or gone of one type, if anything is.
type sender interface {
	sendAdditions(typeURL string) error
	sendRemovals(typeURL string) error
}

// advance sends everything that may be sent now: first what stands apart, then the types in order, each after the one
// before is acknowledged and warm, then removals in reverse.
func (o *ordering) advance(to sender) error {
	if err := o.sendHeldUp(to); err != nil {
		return err
	}
	for _, typeURL := range order {
		if err := to.sendAdditions(typeURL); err != nil {
			return err
		}
		if typeURL == envoy.ClusterType {
			if err := o.sendApart(to); err != nil {
				return err
			}
		}
		if o.waiting(typeURL) {
			switch {
			case typeURL != envoy.ClusterType:
			case o.resumption.expectsScopes(): // and when they are listed, listeners wait for the missing ones
				o.heldUp = 0
			case o.heldUp == 0:
				o.heldUp = o.subs.last
			}
			return nil
		}
	}
	if o.resumption.active() {
		return nil
	}
	for _, typeURL := range removalOrder {
		if err := to.sendRemovals(typeURL); err != nil || o.waiting(typeURL) {
			return err
		}
	}
	return nil
}

// sendHeldUp sends listeners that waited for clusters and scopes, before further ones are sent. Otherwise a series of first
// calls would hold them up for as long as the calls come. It is safe, because each route waits for its own clusters.
func (o *ordering) sendHeldUp(to sender) error {
	if o.heldUp == 0 || o.resumption.expectsScopes() || o.warming.upTo(o.heldUp) {
		return nil
	}
	for _, typeURL := range []string{envoy.ClusterType, envoy.ScopedRouteType} {
		if sub := o.subs.of(typeURL); sub != nil && sub.holdsBack() && sub.number <= o.heldUp {
			return nil
		}
	}
	o.heldUp = 0
	return to.sendAdditions(envoy.ListenerType)
}

// sendApart sends endpoints, scopes, routes, virtual hosts, secrets, and "does not exist" for types that Mizzen does not serve.
func (o *ordering) sendApart(to sender) error {
	for typeURL := range o.subs.byType {
		if slices.Contains(order, typeURL) {
			continue
		}
		if err := to.sendAdditions(typeURL); err != nil {
			return err
		}
	}
	return nil
}

// waiting reports whether the types behind this one must be held back. Listeners are behind scopes, too.
func (o *ordering) waiting(typeURL string) bool {
	if sub := o.subs.of(typeURL); sub != nil && sub.holdsBack() {
		return true
	}
	return typeURL == envoy.ClusterType && (o.warming.active() || o.waiting(envoy.ScopedRouteType) || o.resumption.expectsScopes())
}

// may reports whether the proxy has what it needs before a resource that stands apart.
func (o *ordering) may(typeURL string, e *entry) bool {
	switch typeURL {
	case envoy.RouteType:
		return o.ready(e)
	case envoy.VirtualHostType:
		return o.ready(e) && o.subs.hasRoutes(e.name)
	}
	return true
}

// ready reports whether all clusters of a route configuration or a virtual host are acknowledged and warm. A route does not wait for a cluster that
// does not exist.
func (o *ordering) ready(route *entry) bool {
	clusters := o.subs.of(envoy.ClusterType)
	if clusters == nil {
		return !o.subs.scoped() // if it has scopes, it will still say which clusters it has
	}
	if !clusters.all {
		return true
	}
	for _, id := range route.references {
		if e := o.lookup.entry(id); e != nil && (clusters.sent[id.Name] != e.version || !o.warming.usable(e)) {
			return false
		}
	}
	return true
}
