package server

import (
	"net/http"
	"runtime"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Debug serves the state as JSON: the connected proxies at /debug/proxies, the version of each resource at
// /debug/resources, and what takes memory at /debug/memory.
func (s *Server) Debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/proxies", func(w http.ResponseWriter, _ *http.Request) { _ = httpjson.WriteIndented(w, s.Proxies()) })
	mux.HandleFunc("GET /debug/resources", func(w http.ResponseWriter, _ *http.Request) {
		_ = httpjson.WriteIndented(w, s.opt.Store.versions())
	})
	mux.HandleFunc("GET /debug/memory", func(w http.ResponseWriter, _ *http.Request) { _ = httpjson.WriteIndented(w, s.memory()) })
	return mux
}

// memoryUse says what takes memory. Sizes are in bytes.
type memoryUse struct {
	// Process is what Go's runtime has of the operating system, but for what it has given back, and what of that is in use on the
	// heap. See https://pkg.go.dev/runtime#MemStats.
	Process struct {
		Sys        uint64 `json:"sys"`
		HeapInuse  uint64 `json:"heapInuse"`
		HeapAlloc  uint64 `json:"heapAlloc"`
		StackInuse uint64 `json:"stackInuse"`
		Goroutines int    `json:"goroutines"`
	} `json:"process"`
	// Resources are those in the store, by short type.
	Resources map[string]tableSize `json:"resources"`
	Streams   int                  `json:"streams"`
	// Names are those of resources that the streams' proxies hold or were sent, summed over the streams.
	Names int `json:"names"`
}

// tableSize is the size of one type in the store: its names, their variants, the bytes of these as they are sent, and the
// watched names.
type tableSize struct {
	Names    int `json:"names"`
	Variants int `json:"variants"`
	Bytes    int `json:"bytes"`
	Watched  int `json:"watched"`
}

func (s *Server) memory() memoryUse {
	var m memoryUse
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	m.Process.Sys, m.Process.HeapInuse, m.Process.HeapAlloc = stats.Sys-stats.HeapReleased, stats.HeapInuse, stats.HeapAlloc
	m.Process.StackInuse, m.Process.Goroutines = stats.StackInuse, runtime.NumGoroutine()
	m.Resources = s.opt.Store.sizes()
	for _, p := range s.Proxies() {
		m.Streams++
		for _, t := range p.Types {
			m.Names += t.Sent
		}
	}
	return m
}

// Usage answers "?workload=<namespace>/<kind>/<name>" with what the pods of a workload have asked for. Other replicas
// call it (xds/peers).
func (s *Server) Usage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		used := s.usage.list(r.URL.Query().Get("workload"))
		if used == nil {
			used = []envoy.ID{}
		}
		_ = httpjson.WriteIndented(w, used)
	})
}
