package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	ctrlmetrics "sigs.k8s.io/controller-runtime/pkg/metrics"

	"github.com/mizzen-mesh/mizzen/webhook"
)

// finishTimeout bounds the wait for admissions in flight at the end. The chart's webhooks time out
// after 10 s, so no caller is left waiting for a longer one.
const finishTimeout = 10 * time.Second

// server is one listener and its HTTP server.
type server struct {
	name string
	http *http.Server
	tls  bool
}

func newServer(name string, port int, handler http.Handler, tlsConfig *tls.Config, log logr.Logger) *server {
	return &server{
		name: name,
		tls:  tlsConfig != nil,
		http: &http.Server{
			Addr:              net.JoinHostPort("", strconv.Itoa(port)),
			Handler:           handler,
			TLSConfig:         tlsConfig,
			ReadHeaderTimeout: 10 * time.Second,
			IdleTimeout:       2 * time.Minute,
			ErrorLog:          errorLog(log.WithName(name)),
		},
	}
}

// run serves until stop is called.
func (s *server) run() error {
	var err error
	if s.tls {
		err = s.http.ListenAndServeTLS("", "")
	} else {
		err = s.http.ListenAndServe()
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("%s server: %w", s.name, err)
}

// stop lets requests in flight finish.
func (s *server) stop(log logr.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		log.Error(err, "requests cut off at shutdown", "server", s.name)
	}
}

// webhookHandler serves admissions. On the way down each answer also ends its connection: the API
// server keeps one open, and http.Server.Shutdown closes an idle one without a word, also when an
// admission is under way on it. "Connection: close" makes Go's HTTP/2 server send a GOAWAY instead, after
// which the client repeats elsewhere what was not taken up.
func webhookHandler(injector http.Handler, leaving func() bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc(webhook.Path, func(w http.ResponseWriter, r *http.Request) {
		if leaving() {
			w.Header().Set("Connection", "close")
		}
		injector.ServeHTTP(w, r)
	})
	return mux
}

func statusHandler(ready *readiness, debug http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(ctrlmetrics.Registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.Handle("/readyz", ready)
	if debug != nil {
		mux.Handle("/debug/", debug)
	}
	return mux
}
