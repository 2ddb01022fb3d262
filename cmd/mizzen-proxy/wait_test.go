package main

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/agent"
)

func TestWaitReady(t *testing.T) {
	var asked atomic.Int32
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := asked.Add(1)
		if n == -1 {
			cancel()
		}
		if known := r.FormValue(agent.KnownParameter); n > 1 && known != "waiting for the control plane" {
			t.Errorf("question %d says that %q is known", n, known)
		}
		if n < 4 {
			http.Error(w, "waiting for the control plane", http.StatusServiceUnavailable)
		}
	}))
	defer server.Close()
	var out strings.Builder
	if err := waitReady(ctx, server.URL, &out); err != nil || asked.Load() != 4 {
		t.Errorf("error %v after %d questions, want none after 4", err, asked.Load())
	}
	if out.String() != "the sidecar is not ready: waiting for the control plane\n" {
		t.Errorf("said %q, want the reason once", &out)
	}
	asked.Store(-4)
	if err := waitReady(ctx, server.URL, &out); err == nil || !strings.Contains(err.Error(), "waiting for the control plane") {
		t.Errorf("told to end: %v, want an error with the reason", err)
	}
}

func TestWaitForAnAgentThatDoesNotListenYet(t *testing.T) {
	agent := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	url := "http://" + agent.Listener.Addr().String()
	agent.Listener.Close()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	var out strings.Builder
	go func() { done <- waitReady(ctx, url, &out) }()
	cancel()
	if err := <-done; err == nil {
		t.Error("no error from an agent that never answered")
	}
	if out.String() != "" {
		t.Errorf("said %q, want nothing before the agent said something", &out)
	}
}
