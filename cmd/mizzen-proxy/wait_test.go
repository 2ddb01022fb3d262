package main

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
)

func TestWait(t *testing.T) {
	var asked atomic.Int32
	agent := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) < 3 {
			http.Error(w, "waiting for the control plane", http.StatusServiceUnavailable)
		}
	}))
	defer agent.Close()
	var out, errs strings.Builder
	if code := execute([]string{"wait", "--url=" + agent.URL, "--timeout=10s"}, &out, &errs); code != 0 {
		t.Errorf("exit %d: %s", code, &errs)
	}
	asked.Store(-1 << 30)
	if code := execute([]string{"wait", "--url=" + agent.URL, "--timeout=100ms"}, &out, &errs); code != 1 ||
		!strings.Contains(errs.String(), "not ready: waiting for the control plane") {
		t.Errorf("exit %d: %q, want 1 and the reason", code, &errs)
	}
}
