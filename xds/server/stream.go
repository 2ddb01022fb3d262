package server

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// stream is one proxy's ADS stream. It receives requests and changes, has its parts decide, and sends. The goroutine
// of run owns all of it, but for pending and status, which have locks of their own.
type stream struct {
	node    node.Node
	store   *Store
	metrics *metrics
	log     logr.Logger
	send    func(*response) error
	version string // under which it is counted
	// settled is called when the largest exchange of a stream that begins is over.
	settled func()

	pending    pending
	watches    watches
	preload    preload
	lookup     lookup
	subs       subscriptions
	warming    warming
	resumption resumption
	ordering   ordering
	absents    absents
	demands    demands
	delta      delta
	status     liveStatus

	// draining is closed when the server shuts down; the stream then ends within drain.
	draining <-chan struct{}
	drain    time.Duration
}

func newStream(n node.Node, s *Server, send func(*response) error) *stream {
	store, log := s.opt.Store, s.opt.Log.WithValues("proxy", n.ID())
	st := &stream{
		node: n, store: store, metrics: s.metrics, log: log, send: send,
		settled:  func() {},
		pending:  newPending(),
		warming:  newWarming(),
		absents:  absents{log: log, ids: map[envoy.ID]struct{}{}},
		demands:  newDemands(store),
		status:   newLiveStatus(n),
		draining: s.draining,
		drain:    s.opt.Drain,
	}
	st.watches = watches{store: store, watcher: &st.pending, metrics: s.metrics, log: log}
	st.preload = preload{store: store, usage: s.usage, node: &st.node, bounds: s.opt.Preload}
	st.lookup = lookup{store: store, node: &st.node, classes: s.opt.Classes, watches: &st.watches, demands: &st.demands}
	st.subs = subscriptions{byType: map[string]*subscription{}, watches: &st.watches, lookup: &st.lookup}
	st.demands.subs, st.demands.preload = &st.subs, &st.preload
	st.resumption = resumption{lookup: &st.lookup, subs: &st.subs, warming: &st.warming, wait: s.resumeTime}
	st.ordering = ordering{subs: &st.subs, lookup: &st.lookup, warming: &st.warming, resumption: &st.resumption}
	st.delta = delta{
		lookup: &st.lookup, subs: &st.subs, absents: &st.absents, pending: &st.pending,
		ordering: &st.ordering, resumption: &st.resumption,
	}
	return st
}

// run serves the stream until ctx ends, requests is closed, the proxy asks for too much or sending fails.
func (s *stream) run(ctx context.Context, requests <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	s.store.join(s.node, &s.pending)
	defer s.end()
	var left <-chan time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.draining:
			s.draining, left = nil, time.After(goAwayTime+rand.N(s.drain+1))
		case <-left:
			return nil
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			if err := s.request(req); err != nil {
				return err
			}
		case <-s.pending.wake:
		case <-s.resumption.over:
			s.resumption.end()
		case <-s.demands.timer.C:
		case <-s.warming.timer.C:
			s.log.Info("no longer waiting for the proxy to warm its clusters", "clusters", len(s.warming.endpoints))
			s.warming.giveUp()
			s.subs.of(envoy.ClusterType).overdue = true
		}
		if err := s.advance(); err != nil {
			return err
		}
		s.status.setDirty(s.subs.dirty())
	}
}

func (s *stream) end() {
	s.warming.timer.Stop()
	s.demands.timer.Stop()
	s.store.leave(s.node, &s.pending)
	s.store.forget(&s.pending, s.subs.watched())
}

// advance sends everything that may be sent now.
func (s *stream) advance() error {
	s.takePending()
	s.subs.needClusters(s.demands.open)
	if err := s.ordering.advance(s); err != nil {
		return err
	}
	return s.answerDemands()
}

// takePending sorts the names that have changed.
func (s *stream) takePending() {
	for id := range s.pending.take(s.store) {
		sub := s.subs.of(id.Type)
		switch {
		case sub == nil:
		case sub.concerns(id.Name):
			sub.dirty.add(id.Name)
		case id.Type != envoy.VirtualHostType && sub.all && s.preload.includes(id):
			s.subs.need(sub, id.Name)
		}
		if sub != nil && id.Type == envoy.VirtualHostType {
			s.subs.virtualHostChanged(sub, id.Name)
		}
		if id.Type == envoy.RouteType {
			s.demands.changed(id.Name)
		}
	}
}

// request takes what a proxy says about one type: its answer to a response, and what it wants. The first request of a
// type without any name means all, for the types that allow it.
func (s *stream) request(req *discoveryv3.DeltaDiscoveryRequest) error {
	if err := s.subs.allowed(req, len(s.demands.asked)); err != nil {
		return err
	}
	sub, first := s.subs.open(req.TypeUrl)
	if req.ResponseNonce != "" && req.ResponseNonce == sub.nonce {
		s.answered(sub, req)
	}
	if req.TypeUrl == envoy.ScopedRouteType && (!first || len(req.InitialResourceVersions) > 0) {
		defer s.settled()
	}
	subscribe := req.ResourceNamesSubscribe
	if first && len(subscribe) == 0 && allowsWildcard(req.TypeUrl) {
		subscribe = []string{wildcard}
	}
	if slices.Contains(subscribe, wildcard) {
		s.subscribeAll(sub, first && len(req.InitialResourceVersions) == 0)
	}
	if len(req.InitialResourceVersions) > 0 {
		s.resumption.take(sub, req.InitialResourceVersions)
	}
	for _, name := range subscribe {
		if destination, is := demanded(sub, name); is {
			s.demands.ask(destination)
		} else if name != wildcard {
			_, held := req.InitialResourceVersions[name]
			s.subs.subscribe(sub, name, held)
			if sub.typeURL == envoy.RouteType && s.node.Gateway {
				s.subs.subscribeVirtualHosts(name)
			}
			if sub.typeURL == envoy.RouteType {
				s.demands.changed(name) // until now, nobody said if the routes went
			}
			s.preload.noteUse(envoy.ID{Type: sub.typeURL, Name: name})
		}
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		if name == wildcard {
			s.subs.unsubscribeAll(sub)
		} else {
			s.absents.forget(envoy.ID{Type: sub.typeURL, Name: name})
			s.subs.unsubscribe(sub, name)
			if sub.typeURL == envoy.RouteType {
				s.subs.unsubscribeVirtualHosts(name)
			}
		}
	}
	if req.TypeUrl == envoy.EndpointType {
		// After a reconnect the proxy holds the right endpoints, but not for a cluster that warms.
		s.warming.resend(sub)
	}
	s.status.update(sub)
	return nil
}

// subscribeAll starts a subscription to everything of a type. fresh is true if the proxy has nothing yet.
func (s *stream) subscribeAll(sub *subscription, fresh bool) {
	if sub.typeURL == envoy.VirtualHostType {
		sub.all = true // Envoy waits for those of its route configurations, not for an answer
		s.subs.subscribeAllVirtualHosts(sub)
		return
	}
	sub.all, sub.firstAnswer = true, fresh
	if sub.typeURL == envoy.ScopedRouteType {
		s.store.watchAll(envoy.RouteType, envoy.OwnerOf(s.node), &s.pending)
		s.demands.begin(sub)
		return
	}
	s.store.watchAll(sub.typeURL, envoy.OwnerOf(s.node), &s.pending)
	for name := range s.preload.names(sub.typeURL) {
		s.subs.needOnRequest(sub, name)
	}
	if s.lookup.needsInbound(sub.typeURL) {
		s.subs.needOnRequest(sub, envoy.InboundListener.Name)
	}
}

// answered takes an ACK or a NACK. After a NACK the proxy keeps its last good version, and is sent the next one when
// that is published.
func (s *stream) answered(sub *subscription, req *discoveryv3.DeltaDiscoveryRequest) {
	if req.ErrorDetail != nil {
		s.refused(sub, req.ErrorDetail.Message)
	} else {
		s.status.accepted(sub)
		if !sub.changedAt.IsZero() {
			s.metrics.convergence.WithLabelValues(typeLabel(sub.typeURL)).Observe(time.Since(sub.changedAt).Seconds())
		}
	}
	switch sub.typeURL {
	case envoy.ClusterType:
		s.warming.clustersAnswered()
	case envoy.EndpointType:
		s.warming.endpointsAnswered(sub)
	}
	sub.answered()
}

// refused counts, logs and remembers a NACK.
func (s *stream) refused(sub *subscription, message string) {
	s.metrics.nacks.WithLabelValues(typeLabel(sub.typeURL)).Inc()
	message = message[:min(len(message), messageInNACK)]
	named := sub.mentioned(message)
	s.log.Error(nil, "proxy refused configuration (NACK) and keeps its last good one", "type", shortType(sub.typeURL), "resources", named, "error", message)
	s.status.refused(sub, named, message)
}

// demanded returns the destination that a subscription to a cluster stands for (envoy.DemandOf).
func demanded(sub *subscription, name string) (destination string, is bool) {
	if sub.typeURL != envoy.ClusterType {
		return "", false
	}
	return envoy.DemandOf(name)
}

// answerDemands says of clusters that stand for destinations that they do not exist. It does not wait until the proxy has
// acknowledged the clusters before, and does not wait for an acknowledgement: Envoy holds both back while a cluster warms.
func (s *stream) answerDemands() error {
	clusters := s.demands.answers(time.Now())
	if len(clusters) == 0 {
		return nil
	}
	s.subs.last++
	s.metrics.sent(envoy.ClusterType, causeSubscribe, nil)
	return s.sendResponse(envoy.ClusterType, strconv.FormatUint(s.subs.last, 10), nil, clusters)
}

// sendAdditions sends what is new of one type.
func (s *stream) sendAdditions(typeURL string) error {
	sub := s.subs.of(typeURL)
	if sub == nil || sub.unacknowledged() || sub.firstAnswer && s.lookup.unknown(typeURL) {
		return nil
	}
	first, asked := sub.firstAnswer, len(sub.asked)
	set, missing := s.delta.additions(sub)
	if len(set) == 0 && len(missing) == 0 && !first {
		return nil
	}
	why := causeChange
	requested := func(e *entry) bool { return sub.requested.has(e.name) }
	if first || len(sub.asked) < asked || slices.ContainsFunc(set, requested) {
		why = causeSubscribe
	}
	if typeURL != envoy.ClusterType {
		return s.respond(sub, why, set, missing)
	}
	s.warming.sent(set, s.subs.last+1) // the response's number
	if err := s.respond(sub, why, set, missing); err != nil {
		return err
	}
	s.warming.resend(s.subs.of(envoy.EndpointType))
	return s.sendAdditions(envoy.EndpointType)
}

// sendRemovals sends what is gone of one type.
func (s *stream) sendRemovals(typeURL string) error {
	sub := s.subs.of(typeURL)
	if sub == nil || sub.unacknowledged() || s.subs.hasNoRemovals(sub) {
		return nil
	}
	removed := s.delta.removals(sub)
	if len(removed) == 0 {
		return nil
	}
	return s.respond(sub, causeChange, nil, removed)
}

func (s *stream) respond(sub *subscription, c cause, set []*entry, removed []string) error {
	s.subs.last++
	sub.responding(s.subs.last, c, set, removed)
	s.metrics.sent(sub.typeURL, c, set)
	s.log.V(1).Info("send", "type", shortType(sub.typeURL), "cause", c, "set", len(set), "removed", len(removed), "nonce", sub.nonce)
	s.status.update(sub)
	return s.sendResponse(sub.typeURL, sub.nonce, set, removed)
}

func (s *stream) sendResponse(typeURL, nonce string, set []*entry, removed []string) error {
	err := s.send(&response{resources: set, envelope: &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:          typeURL,
		Nonce:            nonce,
		RemovedResources: removed,
		ControlPlane:     controlPlane,
	}})
	if err != nil {
		return fmt.Errorf("send %s: %w", shortType(typeURL), err)
	}
	return nil
}

// queued counts the names that the proxy must still be told of: those that run has not looked at, and those that wait
// for an answer of the proxy.
func (s *stream) queued() int { return s.pending.len() + s.status.dirtyNames() }

func (s *stream) unacknowledged() int { return s.status.unacknowledged() }
