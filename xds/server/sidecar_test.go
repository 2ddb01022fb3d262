package server_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// sidecar is a model of Envoy as far as a control plane can tell. It subscribes to all clusters, scopes
// and listeners, to a route when it is called (or at once, if the scope says so), and to the endpoints of
// each cluster that it gets. It acknowledges clusters only when they are warm, and unsubscribes from a
// route before it acknowledges that its scope is gone.
type sidecar struct {
	w *world
	p *proxy
	n *corev3.Node

	clusters map[string]*heldCluster
	scopes   map[string]heldScope
	routes   map[string]heldRoute
	others   map[string]map[string]string // versions of endpoints and listeners, by type and name
	// watched are the names of endpoints and routes that it subscribes to, and the clusters it has asked for.
	watched map[string]map[string]bool

	// cold is the response with clusters that waits for their endpoints; acks wait for no more than chance.
	cold *discoveryv3.DeltaDiscoveryResponse
	acks []*discoveryv3.DeltaDiscoveryResponse
	// sent are the versions that came on this stream, by type and name. credit is how often a name may come
	// again as it is: once for each time that the sidecar has subscribed to it.
	sent   map[string]map[string]string
	credit map[envoy.ID]int
	// again counts how often a followed resource came again as it is.
	again map[string]int
	// since is the epoch of the store at which the sidecar was last known to have been told of everything.
	since int
}

type heldCluster struct {
	version, endpoints string
	// warm is set once any version of it is, coming while the newest is not.
	warm, coming bool
}

type heldScope struct{ version, route string }

type heldRoute struct {
	version  string
	clusters []envoy.ID
	epoch    int // in which the route became this; 0 if there is no such route
}

func newSidecar(w *world, n *corev3.Node) *sidecar {
	s := &sidecar{
		w: w, n: n, again: map[string]int{}, clusters: map[string]*heldCluster{}, scopes: map[string]heldScope{}, routes: map[string]heldRoute{},
		others:  map[string]map[string]string{envoy.EndpointType: {}, envoy.ListenerType: {}},
		watched: map[string]map[string]bool{envoy.EndpointType: {}, envoy.RouteType: {}, envoy.ClusterType: {}},
	}
	s.connect()
	return s
}

// connect starts a stream, with what the sidecar holds from an earlier one.
func (s *sidecar) connect() {
	if s.p != nil {
		s.p.close()
	}
	s.p = s.w.c.connect(s.w.t, s.n)
	s.cold, s.acks, s.sent, s.credit = nil, nil, map[string]map[string]string{}, map[envoy.ID]int{}
	versions := map[string]map[string]string{
		envoy.ClusterType: {}, envoy.ScopedRouteType: {}, envoy.RouteType: {},
		envoy.EndpointType: s.others[envoy.EndpointType], envoy.ListenerType: s.others[envoy.ListenerType],
	}
	for name, c := range s.clusters {
		versions[envoy.ClusterType][name] = c.version
	}
	for name, c := range s.scopes {
		versions[envoy.ScopedRouteType][name] = c.version
	}
	for name, r := range s.routes {
		versions[envoy.RouteType][name] = r.version
	}
	for _, typeURL := range []string{envoy.ClusterType, envoy.ListenerType, envoy.ScopedRouteType, envoy.RouteType, envoy.EndpointType} {
		names := slices.Sorted(maps.Keys(s.watched[typeURL]))
		if typeURL == envoy.ClusterType && len(names) > 0 {
			names = append(names, "*")
		}
		if len(names) > 0 || typeURL != envoy.RouteType && typeURL != envoy.EndpointType {
			s.p.resume(typeURL, maps.Clone(versions[typeURL]), names...)
		}
		// What is held counts as sent.
		s.sent[typeURL] = maps.Clone(versions[typeURL])
	}
}

func (s *sidecar) subscribe(typeURL, name string) {
	if !s.watched[typeURL][name] {
		s.watched[typeURL][name] = true
		s.credit[envoy.ID{Type: typeURL, Name: name}]++
		s.p.subscribe(typeURL, name)
	}
}

func (s *sidecar) unsubscribe(typeURL, name string) {
	if s.watched[typeURL][name] {
		delete(s.watched[typeURL], name)
		delete(s.sent[typeURL], name)
		s.p.unsubscribe(typeURL, name)
	}
}

// call is what a request or a connection of the application sets off, to a Service that there may be.
func (s *sidecar) call(r *rand.Rand) {
	if r.IntN(6) == 0 {
		s.subscribe(envoy.ClusterType, fmt.Sprint("made/", r.IntN(4)))
		return
	}
	if r.IntN(4) == 0 {
		s.subscribe(envoy.ClusterType, address(r.IntN(services)))
		return
	}
	if names := slices.Sorted(maps.Keys(s.scopes)); len(names) > 0 {
		s.subscribe(envoy.RouteType, s.scopes[names[r.IntN(len(names))]].route)
	}
}

// receive handles the next response if there is one within the time.
func (s *sidecar) receive(within time.Duration) bool {
	select {
	case res, ok := <-s.p.in:
		if !ok {
			s.w.fail("the stream ended: %v", s.p.err)
		}
		s.handle(res)
		return true
	case <-time.After(within):
		return false
	}
}

func (s *sidecar) handle(res *discoveryv3.DeltaDiscoveryResponse) {
	s.w.note("%s: %s %q", s.n.Id, res.TypeUrl[len(res.TypeUrl)-8:], content(res))
	for _, r := range res.Resources {
		s.repeated(res.TypeUrl, r)
		switch res.TypeUrl {
		case envoy.ClusterType:
			s.cluster(r)
		case envoy.ScopedRouteType:
			got := unpack(s.w, r, &routev3.ScopedRouteConfiguration{})
			s.scopes[r.Name] = heldScope{r.Version, got.RouteConfigurationName}
			if !got.OnDemand {
				s.subscribe(envoy.RouteType, got.RouteConfigurationName)
			}
		case envoy.RouteType:
			s.route(r)
		default:
			s.others[res.TypeUrl][r.Name] = r.Version
			s.endpointsCame(res.TypeUrl, r.Name)
		}
	}
	for _, name := range res.RemovedResources {
		delete(s.sent[res.TypeUrl], name)
		switch res.TypeUrl {
		case envoy.ClusterType:
			s.clusterGone(name)
		case envoy.ScopedRouteType:
			route := s.scopes[name].route
			delete(s.scopes, name)
			delete(s.routes, route)
			s.unsubscribe(envoy.RouteType, route)
		case envoy.RouteType:
			s.w.fail("route %q removed: a sidecar would not notice", name)
		default:
			delete(s.others[res.TypeUrl], name)
			s.endpointsCame(res.TypeUrl, name) // the answer that they do not exist
		}
	}
	if res.TypeUrl == envoy.ClusterType {
		s.cold = res
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
	case (typeURL == envoy.ScopedRouteType || typeURL == envoy.ListenerType) && s.again[r.Name] < s.w.touched[r.Name]:
		// It went and came back, or was lazy for a while, which is not told from a change.
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

func (s *sidecar) cluster(r *discoveryv3.Resource) {
	got := unpack(s.w, r, &clusterv3.Cluster{})
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
	if s.cold != nil {
		s.acks = append(s.acks, s.cold)
		s.cold = nil
	}
}

// route checks that all clusters of a route are there, but for those that the store did not have at some
// time since the sidecar knew everything, or since the route was made, whichever was later.
func (s *sidecar) route(r *discoveryv3.Resource) {
	if !s.watched[envoy.RouteType][r.Name] {
		return // unsubscribed meanwhile
	}
	got := unpack(s.w, r, &routev3.RouteConfiguration{})
	held := heldRoute{version: r.Version, clusters: envoy.References(got), epoch: epochOf(got)}
	s.routes[r.Name] = held
	for _, id := range held.clusters {
		if c := s.clusters[id.Name]; (c == nil || !c.warm) && s.w.existed(id.Name, max(s.since, held.epoch)) {
			s.w.fail("route %q came before its cluster %q was warm (%+v)", r.Name, id.Name, c)
		}
	}
}

// clusterGone checks that no route of a live scope refers to the cluster, unless such is the route that
// the store has, too, at some time since the sidecar knew everything.
func (s *sidecar) clusterGone(name string) {
	for _, scope := range s.scopes {
		route := s.routes[scope.route]
		if slices.Contains(route.clusters, envoy.ID{Type: envoy.ClusterType, Name: name}) && !s.w.dangled(scope.route, name, s.since) {
			s.w.fail("cluster %q removed while route %q (of epoch %d) refers to it", name, scope.route, route.epoch)
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

// ack sends one acknowledgement that is due.
func (s *sidecar) ack(r *rand.Rand) {
	if len(s.acks) > 0 {
		i := r.IntN(len(s.acks))
		s.p.ack(s.acks[i])
		s.acks = slices.Delete(s.acks, i, i+1)
	}
}

// settle goes on until all is acknowledged and the server has nothing to say. It does not, once it has
// answered two probes in a row and said nothing else: types stand in no order, so that the first answer may
// come before the rest of what was due with it.
func (s *sidecar) settle(r *rand.Rand) {
	for clean := 0; clean < 2; {
		for len(s.acks) > 0 {
			s.ack(r)
			clean = 0
		}
		s.p.subscribe(secretType, "probe")
		for {
			res := s.p.response("an answer to a probe")
			if res.TypeUrl == secretType {
				s.p.ack(res)
				s.p.unsubscribe(secretType, "probe")
				break
			}
			clean = -1
			s.handle(res)
		}
		clean++
	}
	if s.cold != nil {
		s.w.fail("clusters never warm: %q", content(s.cold))
	}
	s.since = s.w.epoch
}

func unpack[M proto.Message](w *world, r *discoveryv3.Resource, m M) M {
	if err := r.Resource.UnmarshalTo(m); err != nil {
		w.fail("%v", err)
	}
	return m
}

func epochOf(rc *routev3.RouteConfiguration) (epoch int) {
	if len(rc.VirtualHosts) > 0 {
		_, _ = fmt.Sscan(rc.VirtualHosts[0].Name, &epoch)
	}
	return epoch
}
