package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Options of a Server.
type Options struct {
	Store *Store
	Log   logr.Logger
	// Registerer for the server's metrics; nil for none.
	Registerer prometheus.Registerer
	// Preload bounds what a proxy is sent before it asks.
	Preload PreloadBounds
	// Peers are asked what a workload uses if this replica does not know the workload. Optional.
	Peers Peers
	// StreamsPerAddress bounds the streams of one client address. A pod needs one, but some networks show all pods of a
	// node under the node's address. Default 500.
	StreamsPerAddress int
	// TLS refuses connections without a valid certificate in the handshake; nil serves plain text.
	TLS *tls.Config
	// Identify returns the pod that a client's certificate names. A stream speaks for that pod only. Required with TLS.
	Identify func(*x509.Certificate) (node.Identity, error)
	// Refused is called when a stream is refused because of the pod in its certificate. It must not block. Optional.
	Refused func(node.Identity, error)
	// Proxies is called when a proxy has connected and when it has disconnected. It must not block. Optional.
	Proxies func(n node.Node, connected bool)
	// Classes is true if every pod has a class (Change.Classes). A proxy waits until its pod's class is known.
	Classes bool
	// Drain is the time over which the streams end when the server stops, so that proxies do not all come to the other
	// replicas at once. Default 0.
	Drain time.Duration
}

// Peers are the other replicas of the control plane.
type Peers interface {
	// Used returns what pods of a workload, "<namespace>/<kind>/<name>", have asked for. It may take some 100 ms. It
	// returns nothing if it fails.
	Used(ctx context.Context, workload string) []envoy.ID
}

// Server serves delta ADS.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	opt       Options
	metrics   *metrics
	usage     *usage
	addresses *netlimit.Limit[netip.Addr]
	beginners *netlimit.Limit[netip.Addr]
	pods      *netlimit.Limit[node.Pod]
	draining  chan struct{}
	// complaints bounds the log lines about refused clients, because a client can fail as often as it likes.
	complaints *rate.Limiter
	// firstRequestTime and resumeTime are the constants of these names, except in tests.
	firstRequestTime, resumeTime time.Duration

	mu      sync.Mutex
	streams map[*stream]struct{}
	// versions counts the connected proxies of each version.
	versions map[string]int
}

// New returns a server that serves what is in the store.
func New(o Options) *Server {
	if o.StreamsPerAddress == 0 {
		o.StreamsPerAddress = 500
	}
	s := &Server{
		opt: o, usage: newUsage(),
		addresses:        newAddresses(o.StreamsPerAddress),
		beginners:        newBeginners(),
		pods:             newPods(),
		draining:         make(chan struct{}),
		complaints:       rate.NewLimiter(rate.Every(time.Second), 10),
		firstRequestTime: firstRequestTime,
		resumeTime:       resumeTime,
		streams:          map[*stream]struct{}{},
		versions:         map[string]int{},
	}
	s.metrics = newMetrics(o.Registerer, s)
	return s
}

// Serve answers on the listener until ctx ends. Then it accepts no more connections, and each stream ends at a random
// moment within Options.Drain, so that proxies move to other replicas one by one. They keep what they have. Call it once.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(
		grpc.Creds(s.credentials()),
		grpc.ForceServerCodecV2(newCodec()),
		// Notices within a minute that a proxy has vanished without closing its connection.
		grpc.KeepaliveParams(keepalive.ServerParameters{
			Time: 30 * time.Second, Timeout: 15 * time.Second,
			MaxConnectionAge: connectionAge, MaxConnectionAgeGrace: connectionGrace,
		}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(handshakeTime),
		grpc.MaxRecvMsgSize(maxRequest),
		grpc.MaxHeaderListSize(maxHeader),
		grpc.MaxConcurrentStreams(streamsPerConnection),
		grpc.InitialWindowSize(window),
		grpc.InitialConnWindowSize(window),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	stopped := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(stopped)
		close(s.draining)
		// GOAWAY makes a proxy whose stream ends open a new connection, to another replica.
		force := time.AfterFunc(goAwayTime+s.opt.Drain+time.Second, g.Stop)
		defer force.Stop()
		g.GracefulStop()
	})
	err := g.Serve(l)
	if stop() {
		return err
	}
	<-stopped
	return nil
}

// DeltaAggregatedResources serves one proxy's stream. The first request must name the node.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	leave, ok := s.addresses.Try(clientAddress(g.Context()))
	if !ok {
		return s.refuse(g.Context(), codes.ResourceExhausted, "streams", fmt.Errorf("one address may have %d streams", s.addresses.Each))
	}
	defer leave()
	settled, ok := s.begin(g.Context())
	if !ok {
		return nil
	}
	defer settled()
	first, err := firstRequest(g, s.firstRequestTime)
	if err != nil {
		return err
	}
	n, err := node.FromProto(first.GetNode())
	if err != nil {
		return s.refuse(g.Context(), codes.InvalidArgument, "node", err)
	}
	if id, err := s.identify(g.Context(), n); err != nil {
		if s.opt.Refused != nil && id.UID != "" {
			s.opt.Refused(id, err)
		}
		return s.refuse(g.Context(), codes.PermissionDenied, "identity", err)
	}
	if s.opt.TLS != nil { // without certificates the name of a pod proves nothing
		leave, ok := s.pods.Try(n.Of())
		if !ok {
			return s.refuse(g.Context(), codes.ResourceExhausted, "streams", fmt.Errorf("one pod may have %d streams", streamsPerPod))
		}
		defer leave()
	}
	st := newStream(n, s, func(r *response) error { return g.SendMsg(r) })
	st.settled = settled
	if first.TypeUrl == envoy.PodAddressType { // the agent's own stream, which carries little
		settled()
	} else {
		if len(first.InitialResourceVersions) == 0 { // a proxy that comes back lists what it uses itself
			s.askPeers(g.Context(), st)
		}
		s.add(st)
		defer s.remove(st)
		if s.opt.Proxies != nil {
			s.opt.Proxies(n, true)
			defer s.opt.Proxies(n, false)
		}
	}

	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go receive(ctx, g, first, requests)
	err = st.run(ctx, requests)
	if status.Code(err) == codes.ResourceExhausted {
		s.metrics.refused.WithLabelValues("names").Inc()
		st.log.Error(err, "ended an ADS stream")
	}
	return err
}

// firstRequest waits for a stream's first request for a bounded time.
func firstRequest(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, within time.Duration) (*discoveryv3.DeltaDiscoveryRequest, error) {
	var req *discoveryv3.DeltaDiscoveryRequest
	received := make(chan error, 1)
	go func() {
		var err error
		req, err = g.Recv()
		received <- err
	}()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case err := <-received:
		return req, err
	case <-timeout.C:
		return nil, status.Errorf(codes.DeadlineExceeded, "no request within %s", within)
	}
}

// askPeers asks the other replicas what a new pod's workload uses, if that decides what the pod is sent.
func (s *Server) askPeers(ctx context.Context, st *stream) {
	n := st.node
	decided := n.Gateway || n.ConfigScope == config.ScopeDemand || st.preload.bounded().everything
	if s.opt.Peers == nil || n.Workload == "" || decided || s.usage.of(n) != nil {
		return
	}
	for _, id := range s.opt.Peers.Used(ctx, workload(n)) {
		s.usage.note(n, id)
	}
}

// receive passes requests on, beginning with first, until the stream or ctx ends. Then it closes out.
func receive(ctx context.Context, g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, first *discoveryv3.DeltaDiscoveryRequest, out chan<- *discoveryv3.DeltaDiscoveryRequest) {
	defer close(out)
	limit := newRequestLimit()
	for req := first; ; {
		if limit.Wait(ctx) != nil {
			return
		}
		select {
		case out <- req:
		case <-ctx.Done():
			return
		}
		var err error
		if req, err = g.Recv(); err != nil {
			return // io.EOF or a broken stream: the proxy is gone
		}
	}
}

// maxVersions is how many versions of proxies have a series of their own. A proxy can claim any version.
const maxVersions = 20

func (s *Server) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	st.version = st.node.Version
	if _, known := s.versions[st.version]; !known && len(s.versions) >= maxVersions {
		st.version = "other"
	}
	s.count(st.version, 1)
	st.log.Info("proxy connected", "version", st.node.Version)
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.count(st.version, -1)
	st.log.Info("proxy disconnected")
}

func (s *Server) count(version string, by int) {
	s.versions[version] += by
	s.metrics.connected.WithLabelValues(version).Set(float64(s.versions[version]))
	if s.versions[version] == 0 {
		delete(s.versions, version)
		s.metrics.connected.DeleteLabelValues(version)
	}
}

// sum adds up a number over all streams.
func (s *Server) sum(of func(*stream) int) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for st := range s.streams {
		n += of(st)
	}
	return n
}

// Proxies returns the state of every connected proxy, sorted by name.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(s.streams))
	for st := range s.streams {
		out = append(out, st.status.snapshot())
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out
}
