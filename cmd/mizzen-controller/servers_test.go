package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/webhook"
)

// TestLeavingEndsConnections: once the replica is on its way down, a client that keeps one HTTP/2
// connection gets its answer and goes elsewhere with the next call.
func TestLeavingEndsConnections(t *testing.T) {
	var leaving atomic.Bool
	injector := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "admitted") })
	server := httptest.NewUnstartedServer(webhookHandler(injector, leaving.Load))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()

	call := func() (reused bool) {
		t.Helper()
		ctx := httptrace.WithClientTrace(context.Background(), &httptrace.ClientTrace{
			GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused },
		})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, server.URL+webhook.Path, nil)
		if err != nil {
			t.Fatal(err)
		}
		res, err := server.Client().Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "admitted" || res.ProtoMajor != 2 {
			t.Fatalf("%s: %q, error %v", res.Proto, body, err)
		}
		return reused
	}
	call()
	if !call() {
		t.Error("a connection was not kept while the replica serves")
	}
	leaving.Store(true)
	call()
	if call() {
		t.Error("the connection was kept after the answer that should end it")
	}
}
