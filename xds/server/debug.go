package server

import (
	"net/http"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Debug serves the state as JSON: /debug/proxies, and /debug/resources with the version of every resource by
// type and name.
func (s *Server) Debug() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /debug/proxies", func(w http.ResponseWriter, _ *http.Request) { _ = httpjson.WriteIndented(w, s.Proxies()) })
	mux.HandleFunc("GET /debug/resources", func(w http.ResponseWriter, _ *http.Request) {
		_ = httpjson.WriteIndented(w, s.opt.Store.versions())
	})
	return mux
}

// Usage answers "?workload=<namespace>/<kind>/<name>" with what pods of a workload have asked for, which other
// replicas ask (xds/peers).
func (s *Server) Usage() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		used := s.usage.list(r.URL.Query().Get("workload"))
		if used == nil {
			used = []envoy.ID{}
		}
		_ = httpjson.WriteIndented(w, used)
	})
}
