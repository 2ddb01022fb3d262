package server_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// sidecar is a model of Envoy as far as a control plane can tell. It subscribes to all clusters, scopes
// and listeners, to the route of each scope at once, and to the endpoints of each cluster that it gets. A
// call for which it has no routes asks for the scope, and waits. It acknowledges clusters only when they
// are warm, and unsubscribes from a route before it acknowledges that its scope is gone.
type sidecar struct {
	w *world
	p *proxy
	n *corev3.Node

	clusters map[string]*heldCluster
	scopes   map[string]string // their versions
	routes   map[string]heldRoute
	others   map[string]map[string]string // versions of endpoints and listeners, by type and name
	// watched are the names of endpoints and routes that it subscribes to, and the clusters it has asked for.
	watched map[string]map[string]bool

	// asked are the destinations whose scopes it has ever asked for, on this stream too. answers counts how
	// often each was answered on this stream. Calls to those in waiting wait for an answer. Those in late
	// have found no routes, and are about to ask.
	asked, waiting map[string]bool
	late           []string
	answers        map[string]int

	// cold are the responses with clusters that wait for endpoints; acks wait for no more than chance.
	cold, acks []*discoveryv3.DeltaDiscoveryResponse
	// pauses is set if it also asks for no clusters while some are cold. paused are those it will ask for.
	pauses bool
	paused []string
	// sent are the versions that came on this stream, by type and name. credit is how often a name may come
	// again as it is: once for each time that the sidecar has subscribed to it.
	sent   map[string]map[string]string
	credit map[envoy.ID]int
	// again counts how often a listener came again as it is.
	again map[string]int
	// since is the epoch of the store at which the sidecar was last known to have been told of everything.
	since int
}

type heldCluster struct {
	version, endpoints string
	// warm is set once any version of it is, coming while the newest is not.
	warm, coming bool
}

type heldRoute struct {
	version  string
	none     bool // it says that there is no such Service
	clusters []envoy.ID
	epoch    int // in which the route became this; 0 if there is no such route
}

func newSidecar(w *world, n *corev3.Node) *sidecar {
	s := &sidecar{
		w: w, n: n, again: map[string]int{}, clusters: map[string]*heldCluster{}, scopes: map[string]string{}, routes: map[string]heldRoute{},
		others:  map[string]map[string]string{envoy.EndpointType: {}, envoy.ListenerType: {}},
		watched: map[string]map[string]bool{envoy.EndpointType: {}, envoy.RouteType: {}, envoy.ClusterType: {}},
		asked:   map[string]bool{}, waiting: map[string]bool{}, pauses: w.r.IntN(2) == 0,
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
	s.cold, s.acks, s.sent, s.credit, s.answers = nil, nil, map[string]map[string]string{}, map[envoy.ID]int{}, map[string]int{}
	versions := map[string]map[string]string{
		envoy.ClusterType: {}, envoy.ScopedRouteType: s.scopes, envoy.RouteType: {},
		envoy.EndpointType: s.others[envoy.EndpointType], envoy.ListenerType: s.others[envoy.ListenerType],
	}
	for name, c := range s.clusters {
		versions[envoy.ClusterType][name] = c.version
	}
	for name, r := range s.routes {
		versions[envoy.RouteType][name] = r.version
	}
	for _, typeURL := range []string{envoy.ClusterType, envoy.ListenerType, envoy.ScopedRouteType, envoy.RouteType, envoy.EndpointType} {
		names := slices.Sorted(maps.Keys(s.watched[typeURL]))
		if typeURL == envoy.ClusterType {
			for destination := range s.asked {
				names = append(names, envoy.Demand(destination))
			}
		}
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
		s.send(typeURL, name)
	}
}

// send subscribes to a name, now or when it may.
func (s *sidecar) send(typeURL, name string) {
	if typeURL == envoy.ClusterType && s.pauses && len(s.cold) > 0 {
		s.paused = append(s.paused, name)
		return
	}
	s.p.subscribe(typeURL, name)
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
	destination := serviceName(r.IntN(services + 2)) // two of them never exist
	_, has := s.routes[destination]
	switch {
	case has:
	case s.answers[destination] > 0:
		s.w.fail("a call to %q finds no routes after the answer", destination)
	case r.IntN(3) == 0:
		s.late = append(s.late, destination)
	default:
		s.ask(destination)
	}
}

// ask asks for the scope of a destination, which is said once on a stream, and has a call wait for the answer.
func (s *sidecar) ask(destination string) {
	s.waiting[destination] = true
	if !s.asked[destination] {
		s.asked[destination], s.w.called[destination] = true, true
		s.send(envoy.ClusterType, envoy.Demand(destination))
	}
}

// askLate has a call ask that found no routes some time ago. The scope and the routes may have come since then, and
// even the answer, but not all repetitions of it: no worker is as slow as that.
func (s *sidecar) askLate(r *rand.Rand) {
	if len(s.late) == 0 {
		return
	}
	i := r.IntN(len(s.late))
	destination := s.late[i]
	s.late = slices.Delete(s.late, i, i+1)
	if s.answers[destination] < allAnswers {
		s.w.note("%s asks late for %s, after %d answers", s.n.Id, destination, s.answers[destination])
		s.ask(destination)
	}
}

// answer handles that a demand is answered. The call goes on, and needs routes. They are those of the Service, with all
// clusters warm, or say that there is none. That may have been true at any time since the sidecar knew everything.
func (s *sidecar) answer(destination string) {
	s.answers[destination]++
	delete(s.waiting, destination)
	switch route, has := s.routes[destination]; {
	case !s.asked[destination]:
		s.w.fail("a demand for %q is answered that nobody made", destination)
	case s.answers[destination] > allAnswers:
		s.w.fail("the demand for %q is answered %d times", destination, s.answers[destination])
	case s.scopes[destination] == "" || !has:
		s.w.fail("the demand for %q is answered (%d) before its scope %q or its routes %+v came", destination, s.answers[destination], s.scopes[destination], route)
	case route.none && s.w.existed(destination, s.since):
		s.w.fail("Service %q does not exist for who asks", destination)
	default:
		s.usable(destination)
	}
}

// receive handles the next response if there is one within the time.
func (s *sidecar) receive(within time.Duration) {
	select {
	case res, ok := <-s.p.in:
		if !ok {
			s.w.fail("the stream ended: %v", s.p.err)
		}
		s.handle(res)
	case <-time.After(within):
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
			res := s.p.any("an answer to a probe")
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
	for _, res := range s.cold {
		s.w.fail("clusters never warm: %q", content(res))
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
