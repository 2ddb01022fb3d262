package main

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"github.com/go-logr/logr"
)

// What the status port says to whom: debug pages are for the pod's loopback, what replicas ask for replicas.
func TestStatusPages(t *testing.T) {
	const stranger, replica, self = "10.0.0.9:4000", "10.0.0.2:4000", "127.0.0.1:4000"
	page := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, text) }
	}
	pages := func(plain bool) http.Handler {
		p := &statusPages{ready: newReadiness(logr.Discard()), debug: debugPages(), peers: http.NewServeMux()}
		p.debug.Handle("/debug/", page("for people"))
		p.peers.Handle("GET /debug/usage", page("for replicas"))
		if plain {
			p.isReplica = func(_ context.Context, a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.2") }
		}
		return p.handler()
	}
	for _, tt := range []struct {
		name, from, path string
		plain            bool // a mesh without identities
		want             string
	}{
		{"everybody: metrics", stranger, "/metrics", true, "go_goroutines"},
		{"everybody: health", stranger, "/healthz", true, "ok"},
		{"everybody: readiness", stranger, "/readyz", true, "ready"},
		{"a stranger", stranger, "/debug/proxies", true, "403"},
		{"a stranger, what replicas ask", stranger, "/debug/usage", true, "403"},
		{"a stranger, another spelling", stranger, "//debug/proxies", true, "307"},
		{"a replica", replica, "/debug/proxies", true, "403"},
		{"a replica, what replicas ask", replica, "/debug/usage", true, "for replicas"},
		{"a replica over IPv6", "[::ffff:10.0.0.2]:1", "/debug/usage", true, "for replicas"},
		{"a replica, where they have identities", replica, "/debug/usage", false, "403"},
		{"port-forward", self, "/debug/proxies", true, "for people"},
		{"port-forward over IPv6", "[::1]:4000", "/debug/proxies", true, "for people"},
		{"port-forward, what replicas ask", self, "/debug/usage", false, "for replicas"},
		{"port-forward, the profiler", self, "/debug/pprof/heap?debug=1", true, "heap profile"},
		{"a stranger, the profiler", stranger, "/debug/pprof/heap?debug=1", true, "403"},
		{"no address", "", "/debug/proxies", true, "403"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := httptest.NewRequest(http.MethodGet, tt.path, nil)
			r.RemoteAddr = tt.from
			r.Header.Set("X-Forwarded-For", "127.0.0.1") // believed by nobody
			w := httptest.NewRecorder()
			pages(tt.plain).ServeHTTP(w, r)
			if got := fmt.Sprint(w.Code, " ", w.Body); !strings.Contains(got, tt.want) {
				t.Errorf("%s, want %s", got, tt.want)
			}
			if w.Code == http.StatusForbidden && !strings.Contains(w.Body.String(), "kubectl port-forward") {
				t.Errorf("it does not say how: %s", w.Body)
			}
		})
	}
}
