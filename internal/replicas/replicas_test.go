package replicas_test

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/internal/replicas"
)

func TestAsk(t *testing.T) {
	end := make(chan struct{})
	replica := func(handle http.HandlerFunc) string {
		s := httptest.NewServer(handle)
		t.Cleanup(s.Close)
		return strings.TrimPrefix(s.URL, "http://")
	}
	answer := func(body string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if r.URL.String() != "/debug/x?a=b" {
				t.Errorf("asked %s", r.URL)
			}
			_, _ = w.Write([]byte(body))
		}
	}
	addresses := []string{
		replica(answer("1")), replica(answer("2")), replica(answer("no JSON")),
		replica(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) }),
		replica(func(http.ResponseWriter, *http.Request) { <-end }), // hangs
		"127.0.0.1:1", // nobody there
	}
	t.Cleanup(func() { close(end) }) // before the servers are closed, which wait for their handlers
	r := replicas.New(replicas.Options{Log: logr.Discard(), List: func(context.Context) ([]string, error) { return addresses, nil }})
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got, silent := replicas.Ask[int](ctx, r, "/debug/x", url.Values{"a": {"b"}})
	slices.Sort(got)
	if !slices.Equal(got, []int{1, 2}) || silent != 4 {
		t.Errorf("%v and %d silent, want [1 2] and 4", got, silent)
	}
	r = replicas.New(replicas.Options{Log: logr.Discard(), List: func(context.Context) ([]string, error) { return nil, errors.New("no API server") }})
	if got, silent := replicas.Ask[int](ctx, r, "/debug/x", nil); got != nil || silent != 1 {
		t.Errorf("%v and %d silent when they cannot be listed", got, silent)
	}
}
