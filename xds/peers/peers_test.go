package peers_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr/testr"

	"github.com/mizzen-mesh/mizzen/internal/replicas"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/peers"
)

func replica(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func TestUsed(t *testing.T) {
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != peers.Path || r.URL.Query().Get("workload") != "shop/Deployment/cart" {
				t.Errorf("asked %s", r.URL)
			}
			_, _ = w.Write([]byte(body))
		}
	}
	end := make(chan struct{})
	addresses := []string{
		replica(t, answer(`[{"Type":"route","Name":"a"}]`)),
		replica(t, answer(`[{"Type":"route","Name":"b"}]`)),
		replica(t, answer("no JSON")),
		replica(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
		replica(t, func(_ http.ResponseWriter, _ *http.Request) { <-end }), // hangs
		"127.0.0.1:1", // nobody there
	}
	t.Cleanup(func() { close(end) }) // before the servers are closed, which wait for their handlers
	p := &peers.Peers{Replicas: replicas.New(replicas.Options{Log: testr.New(t), List: func(context.Context) ([]string, error) { return addresses, nil }})}
	began := time.Now()
	got := p.Used(t.Context(), "shop/Deployment/cart")
	slices.SortFunc(got, envoy.ID.Compare)
	if want := []envoy.ID{{Type: "route", Name: "a"}, {Type: "route", Name: "b"}}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
	if took := time.Since(began); took > 5*time.Second { // 200 ms, and a machine may be slow
		t.Errorf("took %s, although one replica hangs", took)
	}
}

func TestNobodyToAsk(t *testing.T) {
	p := &peers.Peers{Replicas: replicas.New(replicas.Options{Log: testr.New(t), List: func(context.Context) ([]string, error) { return nil, errors.New("no API server") }})}
	if got := p.Used(t.Context(), "shop/Deployment/cart"); got != nil {
		t.Errorf("got %v", got)
	}
}
