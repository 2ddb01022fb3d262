package main

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/config"
)

// scrapesAtOnce bounds the work that strangers can make with /metrics.
const scrapesAtOnce = 4

// statusPages are what the status port answers: /metrics, /healthz and /readyz everybody, the others nobody
// who is a stranger.
type statusPages struct {
	ready http.Handler
	// debug is for people, who come by way of the pod's loopback: kubectl port-forward does, and Kubernetes
	// says who may use it.
	debug *http.ServeMux
	// peers is what the other replicas ask. Where the mesh has identities the identity server answers them,
	// elsewhere this port does.
	peers *http.ServeMux
	// isReplica tells a replica by its address. Nil where they do not ask here.
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

func (p *statusPages) serveDebug(w http.ResponseWriter, r *http.Request) {
	peer, peerPattern := p.peers.Handler(r)
	from, err := netip.ParseAddrPort(r.RemoteAddr)
	address := from.Addr().Unmap().WithZone("")
	switch {
	case err == nil && address.IsLoopback() && peerPattern == "":
		p.debug.ServeHTTP(w, r)
	case err == nil && peerPattern != "" && (address.IsLoopback() || p.isReplica != nil && p.isReplica(r.Context(), address)):
		peer.ServeHTTP(w, r)
	default:
		refusedRequests.WithLabelValues("status", "debug").Inc()
		http.Error(w, fmt.Sprintf("%s is answered on loopback only. Use: kubectl port-forward -n <namespace of the control plane> deployment/mizzen-controller %d, then http://localhost:%d%s",
			r.URL.Path, config.ControllerHTTPPort, config.ControllerHTTPPort, r.URL.Path), http.StatusForbidden)
	}
}
