package xds_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestMirrorsHoldNobodyUp: a server of copies that neither reads nor answers keeps none of them, and a call whose body
// is larger than what Envoy holds back for it comes to its end. Without a bound on copies it would not.
func TestMirrorsHoldNobodyUp(t *testing.T) {
	var copies atomic.Int32
	cart := startBackend(t, func(_ http.ResponseWriter, r *http.Request) { _, _ = io.Copy(io.Discard, r.Body) })
	v2 := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		copies.Add(1)
		defer copies.Add(-1)
		select { // until the copy ends, for longer than the test waits for that
		case <-r.Context().Done():
		case <-time.After(time.Minute):
		}
	})
	address := runRoute(t, mesh.KindHTTPRoute, `
  - filters: [{type: RequestMirror, requestMirror: {backendRef: {name: v2, port: 80}}}]
    backendRefs: [{name: cart, port: 80}]
`, map[string]*backend{"cart": cart, "v2": v2})
	for range 20 {
		send(t, address, "cart", mesh.Request{Method: "GET", Path: "/"})
	}
	eventually(t, "copies are at their server", func() bool { return v2.calls.Load() == 20 })
	eventually(t, "they end", func() bool { return copies.Load() == 0 })

	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Second)
	defer cancel()
	body := strings.NewReader(strings.Repeat("x", 20<<20))
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+address+"/", body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatalf("held up by its copy: %v", err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Error(res.Status)
	}
}
