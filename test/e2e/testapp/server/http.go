package server

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/websocket"
)

// httpHandler answers:
//
//	/             method, whether the body came whole, the pod in X-Pod
//	/echo         the body
//	/big?n=       n bytes
//	/stream?n=    n chunks, flushed, with a trailer
//	/status?code= that code, after it counts as executed
//	/header?name= what the request has in it
//	/healthz, /fail, /redirect, /redirect-to-fail, /need-header   for probes
//	/hook?name=   remembers and logs the name
//	/peer         the address of who asks, as it is seen; with ?name= it is remembered as a hook, once
//	/ws           WebSocket echo
func (s *Server) httpHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.counted(s.root))
	mux.HandleFunc("/echo", s.counted(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))
	mux.HandleFunc("/big", s.counted(big))
	mux.HandleFunc("/stream", s.counted(stream))
	mux.HandleFunc("/status", s.counted(func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(intParam(r, "code", 200)) }))
	mux.HandleFunc("/header", s.counted(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, r.Header.Values(r.URL.Query().Get("name")))
	}))
	mux.HandleFunc("/healthz", s.healthz)
	mux.HandleFunc("/fail", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.Handle("/redirect", http.RedirectHandler("/healthz", http.StatusFound))
	mux.Handle("/redirect-to-fail", http.RedirectHandler("/fail", http.StatusFound))
	mux.HandleFunc("/need-header", func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Probe") != "yes" || r.Host != "probe.example" {
			w.WriteHeader(http.StatusForbidden)
		}
	})
	mux.HandleFunc("/peer", func(w http.ResponseWriter, r *http.Request) {
		peer, _, _ := net.SplitHostPort(r.RemoteAddr)
		if name := r.URL.Query().Get("name"); name != "" && !strings.Contains(s.hookList(), name+" "+peer) {
			s.addHook(name + " " + peer)
		}
		fmt.Fprintf(w, "peer=%s;\n", peer)
	})
	mux.HandleFunc("/hook", func(_ http.ResponseWriter, r *http.Request) { s.addHook(r.URL.Query().Get("name")) })
	// The Server form, unlike websocket.Handler, does not insist on an Origin header.
	mux.Handle("/ws", websocket.Server{Handler: func(c *websocket.Conn) { _, _ = io.Copy(c, c) }})
	return mux
}

// counted counts executions and calls in flight, tells the pod and obeys ?delay=.
func (s *Server) counted(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		s.inFlight.Add(1)
		defer s.inFlight.Add(-1)
		w.Header().Set("X-Pod", s.opts.Pod)
		w.Header().Set("X-Executed", strconv.FormatInt(s.executed.Add(1), 10))
		if d, err := time.ParseDuration(r.URL.Query().Get("delay")); err == nil {
			time.Sleep(d)
		}
		next(w, r)
	}
}

func (s *Server) root(w http.ResponseWriter, r *http.Request) {
	n, err := io.Copy(io.Discard, r.Body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	fmt.Fprintf(w, "%s %s host=%s body=%d\n", r.Method, r.URL.Path, r.Host, n)
}

func big(w http.ResponseWriter, r *http.Request) {
	n := int64(intParam(r, "n", 1<<20))
	w.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	_, _ = io.CopyN(w, zeros{}, n)
}

func stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Trailer", "X-Checksum")
	for i := range intParam(r, "n", 10) {
		fmt.Fprintf(w, "chunk %d\n", i)
		_ = http.NewResponseController(w).Flush()
		time.Sleep(5 * time.Millisecond)
	}
	w.Header().Set("X-Checksum", "whole")
}

func (s *Server) healthz(w http.ResponseWriter, _ *http.Request) {
	if !s.isReady() {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
}

func (s *Server) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /ready", func(_ http.ResponseWriter, r *http.Request) { s.ready.Store(r.URL.Query().Get("value") != "false") })
	mux.HandleFunc("POST /fail", func(_ http.ResponseWriter, r *http.Request) { s.failing.Store(int32(intParam(r, "code", 0))) })
	// The answer must leave before the process dies, or the caller would see a failure.
	mux.HandleFunc("POST /crash", func(http.ResponseWriter, *http.Request) { time.AfterFunc(100*time.Millisecond, s.crash) })
	mux.HandleFunc("GET /hooks", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.hookList()) })
	mux.HandleFunc("GET /executed", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, s.executed.Load()) })
	mux.HandleFunc("GET /healthz", s.healthz)
	if s.control != nil {
		mux.Handle("/", s.control)
	}
	return mux
}

func intParam(r *http.Request, name string, def int) int {
	if n, err := strconv.Atoi(r.URL.Query().Get(name)); err == nil {
		return n
	}
	return def
}

// zeros reads as endless zero bytes.
type zeros struct{}

func (zeros) Read(p []byte) (int, error) { clear(p); return len(p), nil }
