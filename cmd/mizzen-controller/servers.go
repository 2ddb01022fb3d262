package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/time/rate"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// finishTimeout bounds the wait for admissions in flight at shutdown. The chart's webhooks time out after 10 s, so no
// caller waits longer.
const finishTimeout = 10 * time.Second

// Limits for one client of the webhook and of the status port, so that it cannot harm the others. A network policy
// decides who may call them, because API servers send no certificate.
const (
	httpConnections           = 5000
	httpConnectionsPerAddress = 200
	// maxHeader bounds the size of a request's header, in bytes.
	maxHeader = 32 << 10
	// readTime bounds reading a request with its body; writeTime bounds writing the answer, too. The API server's own
	// bound for an admission is 10 s.
	readTime  = 15 * time.Second
	writeTime = 30 * time.Second
)

// refusedRequests counts requests and connections that are refused before their content is read.
var refusedRequests = prometheus.NewCounterVec(prometheus.CounterOpts{
	Name: "mizzen_refused_requests_total",
	Help: "Refused requests and connections, by server (webhook, status, xds) and reason: too many connections (connections), a debug page for a client that may not see it (debug).",
}, []string{"server", "reason"})

// buildInfo says which version the process has. Sidecars have the version of the control plane that injected them.
var buildInfo = prometheus.NewGauge(prometheus.GaugeOpts{
	Name:        "mizzen_controller_build_info",
	Help:        "Always 1; the label is the version of the control plane.",
	ConstLabels: prometheus.Labels{"version": version.Version},
})

func init() {
	buildInfo.Set(1)
	ctrlmetrics.Registry.MustRegister(refusedRequests, buildInfo)
}

// limit bounds the connections of a listener.
func limit(l net.Listener, server string, all, perAddress int, log logr.Logger) net.Listener {
	logged := rate.NewLimiter(1, 10)
	return netlimit.Listen(l, all, perAddress, func(client netip.Addr) {
		refusedRequests.WithLabelValues(server, "connections").Inc()
		if logged.Allow() {
			log.Info("closed a connection: too many connections", "server", server, "client", client, "most", all, "mostOfOneAddress", perAddress)
		}
	})
}

// server is one listener and its HTTP server.
type server struct {
	name string
	http *http.Server
	tls  bool
	log  logr.Logger
}

func newServer(name string, port int, handler http.Handler, tlsConfig *tls.Config, log logr.Logger) *server {
	return &server{
		name: name,
		tls:  tlsConfig != nil,
		log:  log,
		http: &http.Server{
			Addr:              net.JoinHostPort("", strconv.Itoa(port)),
			Handler:           handler,
			TLSConfig:         tlsConfig,
			ReadHeaderTimeout: 10 * time.Second,
			ReadTimeout:       readTime,
			WriteTimeout:      writeTime,
			IdleTimeout:       2 * time.Minute,
			MaxHeaderBytes:    maxHeader,
			ErrorLog:          errorLog(log.WithName(name)),
		},
	}
}

// run serves until stop is called.
func (s *server) run() error {
	l, err := net.Listen("tcp", s.http.Addr) //nolint:noctx // stop ends it
	if err != nil {
		return fmt.Errorf("%s server: %w", s.name, err)
	}
	l = limit(l, s.name, httpConnections, httpConnectionsPerAddress, s.log)
	if s.tls {
		err = s.http.ServeTLS(l, "", "")
	} else {
		err = s.http.Serve(l)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s server: %w", s.name, err)
}

// stop lets requests in flight finish, even after the end of ctx.
func (s *server) stop(ctx context.Context, log logr.Logger) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		log.Error(err, "requests interrupted by the shutdown", "server", s.name)
	}
}

// webhookHandler serves admissions. During shutdown each answer also ends its connection. The API server keeps a
// connection open, and http.Server.Shutdown closes an idle one without notice, even if an admission is just arriving on
// it. "Connection: close" makes Go's HTTP/2 server send a GOAWAY instead, after which the client sends unprocessed
// requests elsewhere.
func webhookHandler(injector http.Handler, leaving func() bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if leaving() {
			w.Header().Set("Connection", "close")
		}
		injector.ServeHTTP(w, r)
	})
}
