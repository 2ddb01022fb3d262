package server

import "github.com/mizzen-mesh/mizzen/xds/envoy"

// virtualHosts are those of the route configurations that a gateway has subscribed to: a collection for each (envoy.CollectionOf).
// Envoy subscribes to all virtual hosts, once and without a name, and drops those of which it has no route configuration. So it gets them
// when it has that.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/vhds
type virtualHosts struct {
	// of are the names of the route configurations.
	of set
	// left are virtual hosts of route configurations that are gone, by route configuration. The proxy is not told that they are gone,
	// too: it may still serve requests by them over old connections, until it unsubscribes from the route configuration.
	left map[string]set
}

func collectionOf(name string) string {
	return envoy.CollectionOf(envoy.ID{Type: envoy.VirtualHostType, Name: name})
}

// hasVirtualHost reports whether a virtual host belongs to a route configuration that the proxy has subscribed to, and exists for the proxy.
func (s *subscriptions) hasVirtualHost(name string) bool {
	return s.virtualHosts.of.has(collectionOf(name)) && s.lookup.record(envoy.ID{Type: envoy.VirtualHostType, Name: name}) != nil
}

// subscribeVirtualHosts adds those of a route configuration. If the proxy has subscribed to that before, it makes it anew, without any.
func (s *subscriptions) subscribeVirtualHosts(routes string) {
	s.virtualHosts.of.add(routes)
	s.watches.add(envoy.ID{Type: envoy.VirtualHostType, Name: routes})
	if sub := s.of(envoy.VirtualHostType); sub != nil && sub.all {
		s.dropVirtualHosts(sub, routes)
		s.needVirtualHosts(sub, routes)
	}
}

// subscribeAllVirtualHosts adds those of all route configurations.
func (s *subscriptions) subscribeAllVirtualHosts(sub *subscription) {
	for routes := range s.virtualHosts.of {
		s.needVirtualHosts(sub, routes)
	}
}

func (s *subscriptions) needVirtualHosts(sub *subscription, routes string) {
	for _, name := range s.watches.store.collection(envoy.VirtualHostType, routes) {
		if s.hasVirtualHost(name) {
			s.needOnRequest(sub, name)
		}
	}
}

// unsubscribeVirtualHosts drops those of a route configuration.
func (s *subscriptions) unsubscribeVirtualHosts(routes string) {
	s.virtualHosts.of.remove(routes)
	s.watches.remove(envoy.ID{Type: envoy.VirtualHostType, Name: routes})
	sub := s.of(envoy.VirtualHostType)
	if sub == nil {
		return
	}
	for name := range sub.needed {
		if collectionOf(name) == routes {
			s.release(sub, name)
		}
	}
	s.dropVirtualHosts(sub, routes)
}

// dropVirtualHosts notes that the proxy has given up a route configuration, and with it the virtual hosts. Those that are not sent again
// are called gone: until then Envoy goes on to list them when it connects, more with each route configuration.
func (s *subscriptions) dropVirtualHosts(sub *subscription, routes string) {
	delete(s.virtualHosts.left, routes)
	for name := range sub.sent {
		if collectionOf(name) == routes {
			delete(sub.sent, name)
			sub.askAgain(name)
		}
	}
}

// virtualHostChanged looks at a virtual host, and at what is left over beside it: its route configuration is back.
func (s *subscriptions) virtualHostChanged(sub *subscription, name string) {
	if !sub.all || !s.hasVirtualHost(name) {
		return
	}
	s.need(sub, name)
	routes := collectionOf(name)
	for old := range s.virtualHosts.left[routes] {
		sub.dirty.add(old)
	}
	delete(s.virtualHosts.left, routes)
}

// leaves notes a virtual host that is gone, and reports whether the proxy keeps it because all others of its route configuration are
// gone, too.
func (s *subscriptions) leaves(sub *subscription, name string) bool {
	routes := collectionOf(name)
	if sub.typeURL != envoy.VirtualHostType || !s.virtualHosts.of.has(routes) || s.watches.store.hasCollection(sub.typeURL, routes) {
		return false
	}
	left := s.virtualHosts.left[routes]
	left.add(name)
	if s.virtualHosts.left == nil {
		s.virtualHosts.left = map[string]set{}
	}
	s.virtualHosts.left[routes] = left
	return true
}

// hasRoutes reports whether the proxy has been sent the route configuration of a virtual host.
func (s *subscriptions) hasRoutes(virtualHost string) bool {
	routes := s.of(envoy.RouteType)
	if routes == nil {
		return false
	}
	name := collectionOf(virtualHost)
	_, has := routes.sent[name]
	return has && !routes.asked.has(name)
}
