package server

import (
	"context"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// warmingTimeout bounds the wait for a proxy to ask for and acknowledge the endpoints of clusters it
// was sent, before what refers to those clusters is sent all the same.
const warmingTimeout = 5 * time.Second

// order is make before break: what is referred to comes before what refers to it. Listeners come last,
// because a new listener may send connections to the HTTP chain whose scope must be there by then; when
// a proxy starts it asks for scopes and routes only after it has listeners, so none waits for another.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-docs/xds_protocol#eventual-consistency-considerations
var order = []string{envoy.ClusterType, envoy.ScopedRouteType, envoy.RouteType, envoy.ListenerType}

// stream is one proxy's ADS stream. All but pending and status is owned by the goroutine of run.
type stream struct {
	node    node.Node
	store   *Store
	metrics *metrics
	log     logr.Logger
	send    func(*discoveryv3.DeltaDiscoveryResponse) error

	subs  map[string]*subscription
	nonce uint64
	// warming are endpoints of clusters that the proxy was sent but has not acknowledged, each with the
	// number of the response that held the cluster: only endpoints sent after it count.
	// warmingTimer ends the wait for them.
	warming      map[string]uint64
	warmingTimer *time.Timer

	mu      sync.Mutex
	pending map[envoy.ID]struct{}
	wake    chan struct{}
	status  ProxyStatus
}

func newStream(n node.Node, store *Store, m *metrics, log logr.Logger, send func(*discoveryv3.DeltaDiscoveryResponse) error) *stream {
	timer := time.NewTimer(time.Hour)
	timer.Stop()
	return &stream{
		node: n, store: store, metrics: m, send: send,
		log:          log.WithValues("proxy", n.ID()),
		subs:         map[string]*subscription{},
		warming:      map[string]uint64{},
		warmingTimer: timer,
		pending:      map[envoy.ID]struct{}{},
		wake:         make(chan struct{}, 1),
		status:       newStatus(n),
	}
}

// changed notes names to look at and wakes run; it never blocks.
func (s *stream) changed(ids []envoy.ID) {
	s.mu.Lock()
	for _, id := range ids {
		s.pending[id] = struct{}{}
	}
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// run serves the stream until ctx ends, requests is closed or sending fails.
func (s *stream) run(ctx context.Context, requests <-chan *discoveryv3.DeltaDiscoveryRequest) error {
	s.store.listen(s)
	defer s.store.forget(s)
	defer s.warmingTimer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case req, ok := <-requests:
			if !ok {
				return nil
			}
			s.request(req)
		case <-s.wake:
			s.takePending()
		case <-s.warmingTimer.C:
			s.log.Info("gave up waiting for the proxy to warm its clusters", "clusters", len(s.warming))
			clear(s.warming)
			s.subs[envoy.ClusterType].overdue = true
		}
		if err := s.advance(); err != nil {
			return err
		}
	}
}

func (s *stream) takePending() {
	s.mu.Lock()
	pending := s.pending
	s.pending = map[envoy.ID]struct{}{}
	s.mu.Unlock()
	for id := range pending {
		if sub := s.subs[id.Type]; sub != nil && (sub.wants(id.Name) || sub.sent[id.Name] != "") {
			sub.dirty[id.Name] = struct{}{}
		}
	}
}

func (s *stream) request(req *discoveryv3.DeltaDiscoveryRequest) {
	sub, seen := s.subs[req.TypeUrl]
	if !seen {
		sub = newSubscription(req.TypeUrl)
		s.subs[req.TypeUrl] = sub
	}
	if req.ResponseNonce != "" && req.ResponseNonce == sub.nonce {
		s.answered(sub, req)
	}
	sub.request(req, !seen, func() []string { return s.store.names(req.TypeUrl) })
	if req.TypeUrl == envoy.EndpointType {
		// After a reconnect the proxy holds the right endpoints, but not for a cluster that warms.
		s.resendEndpoints()
	}
	s.updateStatus(sub)
}

// answered takes an ACK or a NACK. After a NACK the proxy keeps its last good version; it is sent
// the next one when there is one.
func (s *stream) answered(sub *subscription, req *discoveryv3.DeltaDiscoveryRequest) {
	names, number := sub.inFlight, sub.number
	sub.nonce, sub.inFlight = "", nil
	if req.ErrorDetail != nil {
		s.nacked(sub, names, req.ErrorDetail.Message)
	}
	if sub.typeURL != envoy.EndpointType {
		return
	}
	for _, name := range names {
		if number > s.warming[name] {
			delete(s.warming, name)
		}
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
		underWay := eds.nonce != "" && eds.number > number && slices.Contains(eds.inFlight, name)
		if eds.wants(name) && !underWay {
			eds.asked[name] = struct{}{}
			eds.dirty[name] = struct{}{}
		}
	}
}

// advance sends all that can be sent now. Endpoints wait for nothing but their own acknowledgement.
// All else goes in order, each type after what it refers to is acknowledged and warm; removals come
// last and in reverse.
func (s *stream) advance() error {
	for typeURL := range s.subs { // endpoints, and "does not exist" for types that Mizzen does not serve
		if slices.Contains(order, typeURL) {
			continue
		}
		if err := s.sendAdditions(typeURL); err != nil {
			return err
		}
	}
	for _, typeURL := range order {
		if err := s.sendAdditions(typeURL); err != nil {
			return err
		}
		if s.waiting(typeURL) {
			return nil
		}
	}
	return s.sendRemovals()
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
	if sub == nil || sub.nonce != "" || len(sub.dirty) == 0 && !sub.firstAnswer {
		return nil
	}
	set, missing := sub.additions(s.lookup(typeURL))
	if len(set) == 0 && len(missing) == 0 && !sub.firstAnswer {
		return nil
	}
	if typeURL != envoy.ClusterType {
		return s.respond(sub, set, missing)
	}
	s.warm(set)
	if err := s.respond(sub, set, missing); err != nil {
		return err
	}
	s.resendEndpoints()
	return s.sendAdditions(envoy.EndpointType)
}

// warm notes the endpoints that clusters wait for. The wait is bounded from its beginning: further
// clusters do not prolong it.
func (s *stream) warm(clusters []*entry) {
	waiting := len(s.warming) > 0
	for _, e := range clusters {
		if e.endpoints != "" {
			s.warming[e.endpoints] = s.nonce + 1 // the number that respond gives next
		}
	}
	if !waiting && len(s.warming) > 0 {
		s.warmingTimer.Reset(warmingTimeout)
	}
}

func (s *stream) sendRemovals() error {
	for i := len(order) - 1; i >= 0; i-- {
		if err := s.sendRemovalsOf(order[i]); err != nil || s.waiting(order[i]) {
			return err
		}
	}
	return s.sendRemovalsOf(envoy.EndpointType)
}

func (s *stream) sendRemovalsOf(typeURL string) error {
	sub := s.subs[typeURL]
	if sub == nil || sub.nonce != "" || len(sub.dirty) == 0 {
		return nil
	}
	removed := sub.removals(s.lookup(typeURL))
	if len(removed) == 0 {
		return nil
	}
	return s.respond(sub, nil, removed)
}

func (s *stream) lookup(typeURL string) func(string) *entry {
	return func(name string) *entry { return s.store.lookup(typeURL, name, s.node) }
}

func (s *stream) respond(sub *subscription, set []*entry, removed []string) error {
	s.nonce++
	sub.overdue, sub.firstAnswer = false, false
	sub.number, sub.nonce = s.nonce, strconv.FormatUint(s.nonce, 10)
	resources := make([]*discoveryv3.Resource, len(set))
	sub.inFlight = append([]string(nil), removed...)
	for i, e := range set {
		resources[i] = e.wire
		sub.inFlight = append(sub.inFlight, e.wire.Name)
	}
	s.metrics.responses.WithLabelValues(typeLabel(sub.typeURL)).Inc()
	s.metrics.resources.WithLabelValues(typeLabel(sub.typeURL)).Add(float64(len(set)))
	s.log.V(1).Info("send", "type", shortType(sub.typeURL), "set", len(set), "removed", len(removed), "nonce", sub.nonce)
	s.updateStatus(sub)
	return s.send(&discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:          sub.typeURL,
		Nonce:            sub.nonce,
		Resources:        resources,
		RemovedResources: removed,
		ControlPlane:     controlPlane,
	})
}
