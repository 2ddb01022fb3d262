package server_test

import (
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func (s *sidecar) handle(res *discoveryv3.DeltaDiscoveryResponse) {
	s.w.note("%s: %s %q", s.n.Id, res.TypeUrl[len(res.TypeUrl)-8:], content(res))
	for _, r := range res.Resources {
		s.repeated(res.TypeUrl, r)
		switch res.TypeUrl {
		case envoy.ClusterType:
			s.cluster(r)
		case envoy.ScopedRouteType:
			s.scope(r)
		case envoy.RouteType:
			s.route(r)
		default:
			s.others[res.TypeUrl][r.Name] = r.Version
			s.endpointsCame(res.TypeUrl, r.Name)
		}
	}
	for _, name := range res.RemovedResources {
		if destination, is := envoy.DemandOf(name); is && res.TypeUrl == envoy.ClusterType {
			s.answer(destination)
			continue
		}
		delete(s.sent[res.TypeUrl], name)
		switch res.TypeUrl {
		case envoy.ClusterType:
			s.clusterGone(name)
		case envoy.ScopedRouteType:
			if name == "ask" || s.answers[name] > 0 || s.scopes[name] == "" {
				s.w.fail("scope %q removed, of version %q, after %d answers", name, s.scopes[name], s.answers[name])
			}
			delete(s.scopes, name)
			delete(s.routes, name)
			s.unsubscribe(envoy.RouteType, name)
		case envoy.RouteType:
			s.w.fail("route %q removed: a sidecar would not notice", name)
		default:
			delete(s.others[res.TypeUrl], name)
			s.endpointsCame(res.TypeUrl, name) // the answer that they do not exist
		}
	}
	if res.TypeUrl == envoy.ClusterType {
		s.cold = append(s.cold, res)
	} else {
		s.acks = append(s.acks, res)
	}
	s.warmed()
}

// repeated fails if an unchanged resource comes again without a reason.
func (s *sidecar) repeated(typeURL string, r *discoveryv3.Resource) {
	id := envoy.ID{Type: typeURL, Name: r.Name}
	if s.sent[typeURL][r.Name] != r.Version {
		s.sent[typeURL][r.Name] = r.Version
		return
	}
	switch {
	case typeURL == envoy.EndpointType && s.warming(r.Name): // resendEndpoints
	case s.credit[id] > 0:
		s.credit[id]--
	case typeURL == envoy.ListenerType && s.again[r.Name] < s.w.touched[r.Name]: // it went and came back
		s.again[r.Name]++
	default:
		s.w.fail("%s %q came again as it is", typeURL, r.Name)
	}
}

// warming reports whether a cluster waits for endpoints.
func (s *sidecar) warming(endpoints string) bool {
	for _, c := range s.clusters {
		if c.coming && c.endpoints == endpoints {
			return true
		}
	}
	return false
}

// scope takes a scope, which must be one that the sidecar asks by, has asked for, or may be sent ahead.
func (s *sidecar) scope(r *discoveryv3.Resource) {
	got := unpack(s.w, r, &routev3.ScopedRouteConfiguration{})
	switch {
	case got.OnDemand || got.Key.Fragments[0].GetStringKey() != r.Name:
		s.w.fail("scope %q is %v", r.Name, got)
	case r.Name == "ask":
		s.scopes[r.Name] = r.Version
		return
	case got.RouteConfigurationName != r.Name:
		s.w.fail("scope %q has routes %q", r.Name, got.RouteConfigurationName)
	case !s.asked[r.Name] && !s.w.mayPreload(r.Name, s.since):
		s.w.fail("nobody has asked for scope %q", r.Name)
	}
	s.scopes[r.Name] = r.Version
	s.subscribe(envoy.RouteType, r.Name)
}

func (s *sidecar) cluster(r *discoveryv3.Resource) {
	got := unpack(s.w, r, &clusterv3.Cluster{})
	if _, is := envoy.DemandOf(r.Name); is {
		s.w.fail("a demand is answered by cluster %q", r.Name)
	}
	if isMade(envoy.ID{Type: envoy.ClusterType, Name: r.Name}) && got.AltStatName == "" {
		s.w.fail("cluster %q is one of nobody", r.Name)
	}
	endpoints := got.GetEdsClusterConfig().GetServiceName()
	c := s.clusters[r.Name]
	if c == nil {
		c = &heldCluster{}
		s.clusters[r.Name] = c
	}
	before := c.endpoints
	c.version, c.endpoints, c.coming = r.Version, endpoints, endpoints != ""
	if endpoints == "" {
		c.warm = true
	} else {
		s.subscribe(envoy.EndpointType, endpoints)
	}
	s.unused(before)
}

// unused unsubscribes from endpoints that no cluster has any more.
func (s *sidecar) unused(endpoints string) {
	for _, c := range s.clusters {
		if c.endpoints == endpoints {
			return
		}
	}
	delete(s.others[envoy.EndpointType], endpoints)
	s.unsubscribe(envoy.EndpointType, endpoints)
}

func (s *sidecar) endpointsCame(typeURL, name string) {
	for _, c := range s.clusters {
		if typeURL == envoy.EndpointType && c.endpoints == name {
			c.warm, c.coming = true, false
		}
	}
}

// warmed lets the clusters be acknowledged when all are warm.
func (s *sidecar) warmed() {
	for _, c := range s.clusters {
		if c.coming {
			return
		}
	}
	s.acks, s.cold = append(s.acks, s.cold...), nil
	for _, name := range s.paused {
		s.p.subscribe(envoy.ClusterType, name)
	}
	s.paused = nil
}

// route takes a route, whose clusters must be usable.
func (s *sidecar) route(r *discoveryv3.Resource) {
	if !s.watched[envoy.RouteType][r.Name] {
		return // unsubscribed meanwhile
	}
	got := unpack(s.w, r, &routev3.RouteConfiguration{})
	s.routes[r.Name] = heldRoute{
		version: r.Version, clusters: envoy.References(got), epoch: epochOf(got),
		none: proto.Equal(got, envoy.NoService(r.Name).Message),
	}
	s.usable(r.Name)
}

// usable checks that all clusters of a route are there, but for those that the store did not have at some
// time since the sidecar knew everything, or since the route was made, whichever was later.
func (s *sidecar) usable(name string) {
	route := s.routes[name]
	for _, id := range route.clusters {
		if c := s.clusters[id.Name]; (c == nil || !c.warm) && s.w.existed(id.Name, max(s.since, route.epoch)) {
			s.w.fail("route %q came before its cluster %q was warm (%+v)", name, id.Name, c)
		}
	}
}

// clusterGone checks that no route of a live scope refers to the cluster, unless such is the route that
// the store has, too, at some time since the sidecar knew everything.
func (s *sidecar) clusterGone(name string) {
	for scope := range s.scopes {
		route := s.routes[scope]
		if slices.Contains(route.clusters, envoy.ID{Type: envoy.ClusterType, Name: name}) && !s.w.dangled(scope, name, s.since) {
			s.w.fail("cluster %q removed while route %q (of epoch %d) refers to it", name, scope, route.epoch)
		}
	}
	if isMade(envoy.ID{Type: envoy.ClusterType, Name: name}) {
		s.w.fail("cluster %q removed", name)
	}
	c := s.clusters[name]
	if delete(s.clusters, name); c != nil {
		s.unused(c.endpoints)
	}
}
