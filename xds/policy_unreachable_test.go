package xds_test

import (
	"net/http"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
)

// unreachable is a fleet of Service cart whose calls are not retried. One of its endpoints answers, the other refuses connections.
func unreachable(t *testing.T, good *backend, p config.ServicePolicy) *fleet {
	svc := service("cart")
	svc.Policy = p
	f := newFleet(t, svc)
	f.cfg.Traffic.Retry.Attempts = new(int32(0))
	f.set("cart", good.address, reserved(t))
	f.serve(nil)
	return f
}

// Without a setting an endpoint that refuses connections gets no more calls.
func TestUnreachableIsLeftOut(t *testing.T) {
	f := unreachable(t, named(t, "good"), config.ServicePolicy{})
	failures := 0
	eventually(t, "failures", func() bool {
		if res, _ := f.get("/"); res.StatusCode == 503 {
			failures++
		}
		return failures == 5
	})
	goodInARow(t, f, 100)
}

func TestUnreachableIsLeftOutOfConnections(t *testing.T) {
	f := newFleet(t, service("cart"))
	f.set("cart", greeting(t), reserved(t))
	f.serveBytes()
	for i := range 300 { // of attempts to the one that refuses, one in 32 connections would be lost
		if !f.greeted() {
			t.Errorf("connection %d is lost", i)
		}
	}
}

// A user can turn it off.
func TestUnreachableIsKept(t *testing.T) {
	f := unreachable(t, named(t, "good"), config.ServicePolicy{ConnectFailures: new(uint32(0))})
	failures := 0
	eventually(t, "failures", func() bool {
		if res, _ := f.get("/"); res.StatusCode == 503 {
			failures++
		}
		return failures == 30
	})
}

// Failed answers, timeouts and ends without an answer leave an endpoint in, however many come in a row: it is there, and Kubernetes says that
// it is ready.
func TestFailuresOfReachableEndpoints(t *testing.T) {
	for name, bad := range map[string]http.HandlerFunc{
		"500":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(500) },
		"503":       func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(503) },
		"late":      func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() },
		"no answer": func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			one, other := startBackend(t, bad), named(t, "good")
			f := newFleet(t, service("cart"))
			f.set("cart", one.address, other.address)
			f.serve(f.rulesOf("  - {backendRefs: [{name: cart, port: 80}], timeouts: {request: 50ms}}\n"))
			eventually(t, "calls", func() bool { f.get("/"); return one.calls.Load() > 30 })
		})
	}
}
