package agent

import (
	"crypto/subtle"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

func (a *agent) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.HandleFunc("GET /startupz", a.serveStarted)
	mux.HandleFunc("GET /metrics", a.serveMetrics)
	mux.HandleFunc("GET "+agentapi.IdentityPath, loopbackOnly(a.serveIdentity))
	a.settings.kind().pages(a, mux)
	return withHealth(health{agent: a}, mux)
}

// Limits of connections to the agent's port, for all clients and for one address, so that no client takes the
// kubelet's.
const (
	connections           = 5000
	connectionsPerAddress = 100
	// scrapesAtOnce bounds concurrent scrapes, each of which costs Envoy's main thread some milliseconds.
	scrapesAtOnce = 2
	// maxHeader bounds the size of a request's header, in bytes.
	maxHeader = 32 << 10
)

func limit(l net.Listener) net.Listener {
	return netlimit.Listen(l, connections, connectionsPerAddress, nil)
}

func newServer(h http.Handler) *http.Server {
	// No write timeout: a lifecycle hook takes as long as the pod's grace period.
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: maxHeader}
	s.Protocols = new(http.Protocols)
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true) // gRPC
	return s
}

// serveProbe runs one of the application's probes or hooks for the kubelet.
func (a *agent) serveProbe(w http.ResponseWriter, r *http.Request) {
	h, ok := a.settings.Probes[r.URL.Path]
	if !ok {
		http.NotFound(w, r)
		return
	}
	container, kind := splitProbePath(r.URL.Path)
	if key := r.Header.Get(appprobe.KeyHeader); key == "" || subtle.ConstantTimeCompare([]byte(key), []byte(a.settings.ProbeKey)) == 0 {
		a.metrics.probes.WithLabelValues(container, string(kind), "refused").Inc()
		http.Error(w, "only the kubelet may call this: header "+appprobe.KeyHeader+" does not have the value from the pod's spec", http.StatusForbidden)
		return
	}
	err := a.prober.Do(probe.AskedBy(r.Context(), r.RemoteAddr), h, r.UserAgent())
	a.metrics.probes.WithLabelValues(container, string(kind), probeResult(err)).Inc()
	if err != nil {
		a.log.Info("the application failed", "container", container, "kind", kind, "error", err)
	}
	if errors.Is(err, unix.ECONNREFUSED) {
		if kubelet, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			a.plain.Redirected(r.URL.Path, kubelet.Addr(), uint16(h.Port())) //nolint:gosec // Kubernetes admits 1 to 65535
		}
	}
	answerProbe(w, r, h, kind, err)
}

func splitProbePath(path string) (container string, kind appprobe.Kind) {
	container, last, _ := strings.Cut(strings.TrimPrefix(path, appprobe.PathPrefix), "/")
	return container, appprobe.Kind(last)
}

func probeResult(err error) string {
	if err != nil {
		return "failure"
	}
	return "success"
}
