package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/pprof" //nolint:gosec // served by debugPages alone
	"net/netip"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// scrapesAtOnce bounds the work that any client can cause with /metrics.
const scrapesAtOnce = 4

// statusPages are the pages of the status port. Everybody gets /metrics, /healthz and /readyz; the other pages are
// restricted.
type statusPages struct {
	ready http.Handler
	// debug has pages for people, answered on the pod's loopback only. kubectl port-forward connects there, and
	// Kubernetes decides who may use it.
	debug *http.ServeMux
	// peers has the pages for other replicas. With identities the identity server serves them, without identities this
	// port does.
	peers *http.ServeMux
	// isReplica recognizes a replica by its address. It is nil if replicas do not ask this port.
	isReplica func(context.Context, netip.Addr) bool
}

func (p *statusPages) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{MaxRequestsInFlight: scrapesAtOnce}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/readyz", p.ready)
	mux.HandleFunc("/debug/", p.serveDebug)
	return mux
}

// debugPages returns a mux with the pages of Go's profiler.
func debugPages() *http.ServeMux {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	return mux
}

func (p *statusPages) serveDebug(w http.ResponseWriter, r *http.Request) {
	peer, peerPattern := p.peers.Handler(r)
	address := netlimit.Client(r.RemoteAddr)
	switch {
	case address.IsLoopback() && peerPattern == "":
		p.debug.ServeHTTP(w, r)
	case address.IsValid() && peerPattern != "" && (address.IsLoopback() || p.isReplica != nil && p.isReplica(r.Context(), address)):
		peer.ServeHTTP(w, r)
	default:
		refusedRequests.WithLabelValues("status", "debug").Inc()
		http.Error(w, fmt.Sprintf("%s is answered on loopback only. Use: kubectl port-forward -n <namespace of the control plane> deployment/mizzen-controller %d, then http://localhost:%d%s",
			r.URL.Path, config.ControllerHTTPPort, config.ControllerHTTPPort, r.URL.Path), http.StatusForbidden)
	}
}
