package server_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// /debug/memory counts what the store and the streams hold.
func TestDebugMemory(t *testing.T) {
	c := start(t)
	variant := endpoints("a", 1)
	variant.Variant = "n1"
	c.set(t, cluster("a", "a"), endpoints("a", 0), variant)
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.EndpointType, "a")
	p.take(envoy.EndpointType, "a")
	p.quiet()

	w := httptest.NewRecorder()
	c.Debug().ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/debug/memory", nil))
	var got struct {
		Process        struct{ Sys, HeapInuse, HeapAlloc, StackInuse, Goroutines int }
		Resources      map[string]struct{ Names, Variants, Bytes, Watched int }
		Streams, Names int
	}
	if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil {
		t.Fatalf("%s: %v", w.Body, err)
	}
	if p := got.Process; p.HeapAlloc == 0 || p.HeapInuse < p.HeapAlloc || p.Sys < p.HeapInuse+p.StackInuse || p.Goroutines == 0 {
		t.Errorf("process: %+v", p)
	}
	eps, clusters := got.Resources["ClusterLoadAssignment"], got.Resources["Cluster"]
	if eps.Names != 1 || eps.Variants != 2 || eps.Watched != 1 || clusters.Names != 1 || clusters.Watched != 0 || clusters.Bytes == 0 {
		t.Errorf("resources: %+v", got.Resources)
	}
	if got.Streams != 1 || got.Names != 1 {
		t.Errorf("%d streams with %d names, want one each", got.Streams, got.Names)
	}
}
