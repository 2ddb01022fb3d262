package server

import (
	"context"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/node"
)

// Options of a Server.
type Options struct {
	Store *Store
	Log   logr.Logger
	// Registerer for the server's metrics; nil for none.
	Registerer prometheus.Registerer
}

// Server serves delta ADS.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	store   *Store
	log     logr.Logger
	metrics *metrics

	mu      sync.Mutex
	streams map[*stream]struct{}
	// versions counts the connected proxies of each version.
	versions map[string]int
}

// New gives a server that serves what is in the store.
func New(o Options) *Server {
	return &Server{store: o.Store, log: o.Log, metrics: newMetrics(o.Registerer), streams: map[*stream]struct{}{}, versions: map[string]int{}}
}

// Serve answers on the listener until ctx ends. Streams are then cut, so that proxies go to another
// replica at once; they keep what they have.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	g := grpc.NewServer(
		// A proxy that has vanished without a word is noticed within a minute.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: 30 * time.Second, Timeout: 15 * time.Second}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
	)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	stop := context.AfterFunc(ctx, g.Stop)
	defer stop()
	err := g.Serve(l)
	if ctx.Err() != nil || errors.Is(err, grpc.ErrServerStopped) {
		return nil
	}
	return err
}

// DeltaAggregatedResources serves one proxy's stream. The first request must name the node.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := g.Recv()
	if err != nil {
		return err
	}
	n, err := node.FromProto(first.GetNode())
	if err != nil {
		s.metrics.refused.Inc()
		s.log.Error(err, "refused an ADS stream")
		return status.Error(codes.InvalidArgument, err.Error())
	}
	st := newStream(n, s.store, s.metrics, s.log, g.Send)
	s.add(st)
	defer s.remove(st)

	ctx, cancel := context.WithCancel(g.Context())
	defer cancel()
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go receive(ctx, g, first, requests)
	return st.run(ctx, requests)
}

// receive passes requests on until the stream or ctx ends, then closes out.
func receive(ctx context.Context, g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer, first *discoveryv3.DeltaDiscoveryRequest, out chan<- *discoveryv3.DeltaDiscoveryRequest) {
	defer close(out)
	for req := first; ; {
		select {
		case out <- req:
		case <-ctx.Done():
			return
		}
		var err error
		if req, err = g.Recv(); err != nil {
			return // io.EOF or a broken stream: both mean that the proxy is gone
		}
	}
}

func (s *Server) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
	s.versions[st.node.Version]++
	s.metrics.connected.WithLabelValues(st.node.Version).Set(float64(s.versions[st.node.Version]))
	s.log.Info("proxy connected", "proxy", st.node.ID(), "version", st.node.Version)
}

func (s *Server) remove(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
	s.versions[st.node.Version]--
	s.metrics.connected.WithLabelValues(st.node.Version).Set(float64(s.versions[st.node.Version]))
	if s.versions[st.node.Version] == 0 {
		delete(s.versions, st.node.Version)
		s.metrics.connected.DeleteLabelValues(st.node.Version)
	}
	s.log.Info("proxy disconnected", "proxy", st.node.ID())
}

// Proxies tells the state of every connected proxy, by name.
func (s *Server) Proxies() []ProxyStatus {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(s.streams))
	for st := range s.streams {
		out = append(out, st.snapshot())
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int { return strings.Compare(a.Proxy, b.Proxy) })
	return out
}

// Debug serves the state as JSON: /debug/proxies, and /debug/resources with the version of every
// resource by type and name.
func (s *Server) Debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/proxies", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.Proxies()) })
	mux.HandleFunc("GET /debug/resources", func(w http.ResponseWriter, _ *http.Request) { writeJSON(w, s.store.versions()) })
	return mux
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	_ = enc.Encode(v) // the client is gone: nobody to tell
}

// versions are those of the whole store, by short type, name and variant.
func (s *Store) versions() map[string]map[string]string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	out := map[string]map[string]string{}
	for typeURL, names := range s.resources {
		byName := map[string]string{}
		for name, variants := range names {
			for variant, e := range variants {
				key := name
				if variant != "" {
					key += " (" + variant + ")"
				}
				byName[key] = e.version()
			}
		}
		out[shortType(typeURL)] = byName
	}
	return out
}
