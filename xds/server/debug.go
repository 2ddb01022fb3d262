package server

import (
	"net/http"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Debug serves the state as JSON: the connected proxies at /debug/proxies, and the version of each resource at
// /debug/resources.
func (s *Server) Debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/proxies", func(w http.ResponseWriter, _ *http.Request) { _ = httpjson.WriteIndented(w, s.Proxies()) })
	mux.HandleFunc("GET /debug/resources", func(w http.ResponseWriter, _ *http.Request) {
		_ = httpjson.WriteIndented(w, s.opt.Store.versions())
	})
	return mux
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
