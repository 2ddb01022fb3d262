package server

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// stream is one proxy's ADS stream. All but pending and status is owned by the goroutine of run.
type stream struct {
	node    node.Node
	store   *Store
	usage   *usage
	ahead   Ahead
	metrics *metrics
	log     logr.Logger
	send    func(*response) error
	version string // under which it is counted
	// classified is set where the pod has a class, known or not yet: see class.go.
	classified bool
	// settled is called when the largest exchange of a stream that begins is over.
	settled func()

	subs  map[string]*subscription
	nonce uint64
	// warming are endpoints of clusters that the proxy was sent but has not acknowledged, each with the
	// number of the response that held the cluster: only endpoints sent after it count.
	// warmingTimer ends the wait for them.
	warming      map[string]uint64
	warmingTimer *time.Timer
	// unacked are the clusters in the response that the proxy has not acknowledged yet.
	unacked set
	// cold are endpoints of clusters that the proxy brought along, until it says that it has them.
	cold set
	// resumed is set once the proxy has said that it holds something. Until resuming fires, after resumeTime, it may
	// not have said all.
	resumed    bool
	resuming   <-chan time.Time
	resumeTime time.Duration
	// heldUp is the last response's number when what comes after clusters began to wait for them, or 0.
	heldUp uint64
	// absents are names that do not exist and were answered all the same.
	absents set
	// made are the names that it watches and that are made on demand.
	made map[envoy.ID]struct{}
	// seen is the store's revision at the last takePending.
	seen uint64

	// draining is closed when the server is on its way down; the stream then ends within drain.
	draining <-chan struct{}
	drain    time.Duration

	wake    chan struct{}
	mu      sync.Mutex
	pending map[envoy.ID]struct{}
	status  ProxyStatus
	// waitingNames are the names that are dirty after the last advance.
	waitingNames int
}

func newStream(n node.Node, s *Server, send func(*response) error) *stream {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &stream{
		node: n, store: s.opt.Store, usage: s.usage, ahead: s.opt.Ahead, metrics: s.metrics, send: send,
		settled:      func() {},
		log:          s.opt.Log.WithValues("proxy", n.ID()),
		subs:         map[string]*subscription{},
		warming:      map[string]uint64{},
		made:         map[envoy.ID]struct{}{},
		warmingTimer: timer,
		classified:   s.opt.Classes,
		draining:     s.draining,
		drain:        s.opt.Drain,
		resumeTime:   s.resumeTime,
		wake:         make(chan struct{}, 1),
		status:       newStatus(n),
	}
}

// changed notes a name to look at and wakes run; it never blocks.
func (s *stream) changed(id envoy.ID) {
	s.mu.Lock()
	if s.pending == nil {
		s.pending = map[envoy.ID]struct{}{}
	}
	s.pending[id] = struct{}{}
	s.mu.Unlock()
	s.followed()
}

// followed wakes run; it never blocks.
func (s *stream) followed() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run serves the stream until ctx ends, requests is closed, the proxy asks for too much or sending fails.
func (s *stream) run(ctx context.Context, requests <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	s.store.join(s.node.Of(), s)
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
		case <-s.wake:
		case <-s.resuming:
			s.resuming, s.cold = nil, nil
		case <-s.warmingTimer.C:
			s.log.Info("no longer waiting for the proxy to warm its clusters", "clusters", len(s.warming))
			clear(s.warming)
			s.unacked = nil
			s.subs[envoy.ClusterType].overdue = true
		}
		if err := s.advance(); err != nil && !errors.Is(err, errLater) {
			return err
		}
		s.noteWaiting()
	}
}

func (s *stream) end() {
	s.warmingTimer.Stop()
	s.store.leave(s.node.Of(), s)
	names := map[string][]string{}
	for typeURL, sub := range s.subs {
		names[typeURL] = slices.AppendSeq(slices.Collect(maps.Keys(sub.names)), maps.Keys(sub.needed))
	}
	s.store.forget(s, names)
}

// takePending sorts the names that have changed.
func (s *stream) takePending() {
	var pending map[envoy.ID]struct{}
	s.seen = s.store.between(func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		pending, s.pending = s.pending, nil
	})
	for id := range pending {
		sub := s.subs[id.Type]
		if sub == nil {
			continue
		}
		if _, has := sub.sent[id.Name]; has || sub.wants(id.Name) {
			sub.dirty.add(id.Name)
		} else if sub.all {
			s.offer(sub, id)
		}
	}
}

// request takes over what a proxy says about one type: its answer to a response, and what it wants. The
// first request of a type without any name means all, for the types that allow it.
func (s *stream) request(req *discoveryv3.DeltaDiscoveryRequest) error {
	sub, seen := s.subs[req.TypeUrl]
	if err := s.allowed(req); err != nil {
		return err
	}
	if !seen {
		sub = newSubscription(req.TypeUrl)
		s.subs[req.TypeUrl] = sub
	}
	if req.ResponseNonce != "" && req.ResponseNonce == sub.nonce {
		s.answered(sub, req)
	}
	if req.TypeUrl == envoy.ScopedRouteType && (seen || len(req.InitialResourceVersions) > 0) {
		defer s.settled()
	}
	subscribe := req.ResourceNamesSubscribe
	if !seen && len(subscribe) == 0 && allowsWildcard(req.TypeUrl) {
		subscribe = []string{wildcard}
	}
	if slices.Contains(subscribe, wildcard) {
		s.subscribeAll(sub, !seen && len(req.InitialResourceVersions) == 0)
	}
	if len(req.InitialResourceVersions) > 0 {
		s.resume()
		s.holds(sub, req.InitialResourceVersions)
	}
	for _, name := range subscribe {
		_, has := req.InitialResourceVersions[name]
		s.subscribe(sub, name, has)
	}
	for _, name := range req.ResourceNamesUnsubscribe {
		s.unsubscribe(sub, name)
	}
	if req.TypeUrl == envoy.EndpointType {
		// After a reconnect the proxy holds the right endpoints, but not for a cluster that warms.
		s.resendEndpoints()
	}
	s.updateStatus(sub)
	return nil
}

// allowed checks the limits of a stream.
func (s *stream) allowed(req *discoveryv3.DeltaDiscoveryRequest) error {
	long := func(name string) bool { return len(name) > maxName }
	tooLong := long(req.TypeUrl) || slices.ContainsFunc(req.ResourceNamesSubscribe, long)
	for name := range req.InitialResourceVersions {
		tooLong = tooLong || long(name)
	}
	if tooLong {
		return status.Errorf(codes.ResourceExhausted, "a name may have %d bytes", maxName)
	}
	if _, seen := s.subs[req.TypeUrl]; !seen && len(s.subs) >= maxTypes {
		return status.Errorf(codes.ResourceExhausted, "a stream may subscribe to %d resource types", maxTypes)
	}
	n := len(req.ResourceNamesSubscribe) + len(req.InitialResourceVersions)
	for _, sub := range s.subs {
		n += max(len(sub.names), len(sub.sent), len(sub.dirty))
	}
	if n > maxNames {
		return status.Errorf(codes.ResourceExhausted, "a stream may have %d names, this would be %d", maxNames, n)
	}
	return nil
}

func (s *stream) subscribe(sub *subscription, name string, has bool) {
	if name == wildcard {
		return
	}
	sub.names.add(name)
	sub.dirty.add(name)
	if !has {
		sub.asked.add(name)
	}
	id := envoy.ID{Type: sub.typeURL, Name: name}
	s.watch(id)
	s.noteUse(id)
}

// noteUse remembers for other pods of the workload what this one calls. Envoy asks at once for the routes
// of what it is sent ahead: that is no call. What is made on demand is of no use to the next pod: there is too much of
// it, for a while only.
func (s *stream) noteUse(id envoy.ID) {
	if !tracked(s.node, id) || s.store.makes(id) {
		return
	}
	if r := s.store.record(id); r != nil && !s.bounds().ahead(id.Type, r) {
		s.usage.note(s.node, id)
	}
}

// subscribeAll starts a subscription to all of a type. fresh is true for a proxy that has nothing yet.
func (s *stream) subscribeAll(sub *subscription, fresh bool) {
	sub.all, sub.firstAnswer = true, fresh
	s.store.watchAll(sub.typeURL, s)
	if !sub.follows() {
		s.needAhead(sub)
	}
}

// resume holds removals back for a while.
func (s *stream) resume() {
	if !s.resumed {
		s.resumed, s.resuming = true, time.After(s.resumeTime)
	}
}

// holds takes over what a proxy brings along from an earlier stream.
func (s *stream) holds(sub *subscription, versions map[string]string) {
	if sub.follows() {
		s.followFrom(sub, versions)
		return
	}
	for name, version := range versions {
		id := envoy.ID{Type: sub.typeURL, Name: name}
		e := s.lookup(id)
		if e != nil && e.version == version {
			version = e.version // the same string for all proxies
		} else if len(version) > maxVersion {
			version = "" // not one of ours; it only has to differ
		}
		s.brought(sub.typeURL, name, e)
		sub.sent[name] = version
		sub.dirty.add(name)
		if sub.all { // even if there is no such resource: it may be back before the proxy is told that it is gone
			s.need(sub, name)
		}
	}
}

// brought notes what a proxy brings along. It may have been cut off after it got a cluster and before it
// got the endpoints, and then the cluster is not warm.
func (s *stream) brought(typeURL, name string, e *entry) {
	switch {
	case typeURL == envoy.EndpointType:
		s.cold.remove(name)
	case typeURL == envoy.ClusterType && e != nil:
		for _, endpoints := range e.references {
			s.cold.add(endpoints.Name)
		}
	}
}

// followFrom finds what differs between what a proxy holds of a followed type and what there is.
func (s *stream) followFrom(sub *subscription, versions map[string]string) {
	records, now, _ := s.store.since(sub.typeURL, 0)
	held := 0
	for _, r := range records {
		version, has := versions[r.name]
		switch {
		case !r.live():
			continue
		case has:
			held++
		}
		// Whether a scope was sent on demand or ahead is not worth sending it again.
		if has && !r.hasVersion(version) || !has && !r.lazy {
			sub.dirty.add(r.name)
		}
	}
	sub.added, sub.removed = now, now
	if held == len(versions) {
		return
	}
	for name := range versions {
		if s.store.record(envoy.ID{Type: sub.typeURL, Name: name}) == nil {
			sub.dirty.add(name)
		}
	}
}

func (s *stream) unsubscribe(sub *subscription, name string) {
	if name == wildcard {
		sub.all = false
		for needed := range sub.needed {
			s.release(sub, needed)
		}
		return
	}
	sub.names.remove(name)
	sub.asked.remove(name)
	s.absents.remove(name)
	if sub.needed.has(name) && sub.all {
		return
	}
	delete(sub.sent, name)
	sub.dirty.remove(name)
	s.unwatch(envoy.ID{Type: sub.typeURL, Name: name})
}

// lookup gives what this proxy is to have under a name, or nil.
func (s *stream) lookup(id envoy.ID) *entry {
	var p sentAhead
	if id.Type == envoy.ScopedRouteType {
		p = s.sentAhead()
	}
	return s.pick(id.Type, s.record(id), p)
}

// pick gives the variant of a record that this proxy is to have, or nil.
func (s *stream) pick(typeURL string, r *record, p sentAhead) *entry {
	if typeURL == envoy.ScopedRouteType && r.live() && p.ahead(typeURL, r) {
		return r.entry(envoy.Ahead)
	}
	if r == nil {
		return nil
	}
	return r.entry(envoy.Variants(envoy.ID{Type: typeURL, Name: r.name}, s.node)...)
}

// errLater says that there is a change whose pending names are not taken yet; the change has woken run.
var errLater = errors.New("later")

// since gives the records of a followed type that changed after a revision, and the revision to go on
// from. An error other than errLater ends the stream: the proxy comes back with a list of what it has.
func (s *stream) since(sub *subscription, revision uint64) ([]*record, uint64, error) {
	records, now, ok := s.store.since(sub.typeURL, revision)
	switch {
	case !ok:
		return nil, 0, status.Errorf(codes.Aborted, "%s: too far behind", shortType(sub.typeURL))
	case now > s.seen:
		return nil, 0, errLater
	}
	return records, now, nil
}

// answered takes an ACK or a NACK. After a NACK the proxy keeps its last good version; it is sent
// the next one when there is one.
func (s *stream) answered(sub *subscription, req *discoveryv3.DeltaDiscoveryRequest) {
	if req.ErrorDetail != nil {
		s.nacked(sub, req.ErrorDetail.Message)
	} else if !sub.changedAt.IsZero() {
		s.metrics.convergence.WithLabelValues(typeLabel(sub.typeURL)).Observe(time.Since(sub.changedAt).Seconds())
	}
	switch sub.typeURL {
	case envoy.ClusterType:
		s.unacked = nil
	case envoy.EndpointType:
		s.warmed(sub)
	}
	sub.nonce, sub.inFlight, sub.inFlightGone = "", nil, nil
}

func (s *stream) respond(sub *subscription, c cause, set []*entry, removed []string) error {
	s.nonce++
	sub.overdue, sub.firstAnswer = false, false
	sub.number, sub.nonce = s.nonce, strconv.FormatUint(s.nonce, 10)
	sub.inFlight, sub.inFlightGone = set, removed
	sub.changedAt = time.Time{}
	if c == causeChange {
		sub.changedAt = oldest(set)
	}
	for _, e := range set {
		sub.demanded.remove(e.name)
	}
	s.metrics.sent(sub.typeURL, c, set)
	s.log.V(1).Info("send", "type", shortType(sub.typeURL), "cause", c, "set", len(set), "removed", len(removed), "nonce", sub.nonce)
	s.updateStatus(sub)
	err := s.send(&response{resources: set, envelope: &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:          sub.typeURL,
		Nonce:            sub.nonce,
		RemovedResources: removed,
		ControlPlane:     controlPlane,
	}})
	if err != nil {
		return fmt.Errorf("send %s: %w", shortType(sub.typeURL), err)
	}
	return nil
}

// oldest is when the first of the entries was published; the zero time if there are none.
func oldest(set []*entry) time.Time {
	var at time.Time
	for _, e := range set {
		if at.IsZero() || e.published.Before(at) {
			at = e.published
		}
	}
	return at
}
