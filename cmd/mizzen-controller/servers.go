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

// stop lets requests in flight finish. The API server keeps HTTP/2 connections to the webhook open;
// they get a GOAWAY, after which its client repeats what was not taken up elsewhere.
func (s *server) stop(log logr.Logger) {
	ctx, cancel := context.WithTimeout(context.Background(), finishTimeout)
	defer cancel()
	if err := s.http.Shutdown(ctx); err != nil {
		log.Error(err, "requests cut off at shutdown", "server", s.name)
	}
}

func webhookHandler(injector http.Handler) http.Handler {
	mux := http.NewServeMux()
	mux.Handle(webhook.Path, injector)
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
