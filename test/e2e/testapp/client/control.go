package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"sync"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// Control serves the paths /call and /load of the control port; see package api.
func Control() http.Handler {
	l := &loads{}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /call", func(w http.ResponseWriter, r *http.Request) {
		var c api.Call
		if decode(w, r, &c) {
			encode(w, Do(r.Context(), c))
		}
	})
	mux.HandleFunc("POST /load", func(w http.ResponseWriter, r *http.Request) {
		var spec api.Load
		if !decode(w, r, &spec) {
			return
		}
		id, err := l.start(spec) //nolint:contextcheck // the load outlives the request
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		encode(w, id)
	})
	mux.HandleFunc("GET /load/{id}", l.with(func(*Run) {}))
	mux.HandleFunc("POST /load/{id}/stop", l.with((*Run).Stop))
	return mux
}

type loads struct {
	mu   sync.Mutex
	runs []*Run
}

func (l *loads) start(spec api.Load) (int, error) {
	run, err := Start(context.Background(), spec)
	if err != nil {
		return 0, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.runs = append(l.runs, run)
	return len(l.runs) - 1, nil
}

// with does something to the run of the path and answers its result.
func (l *loads) with(f func(*Run)) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		l.mu.Lock()
		id, err := strconv.Atoi(r.PathValue("id"))
		if err != nil || id < 0 || id >= len(l.runs) {
			l.mu.Unlock()
			http.Error(w, fmt.Sprintf("id: %q is no load of this pod", r.PathValue("id")), http.StatusNotFound)
			return
		}
		run := l.runs[id]
		l.mu.Unlock()
		f(run)
		encode(w, run.Result())
	}
}

func decode(w http.ResponseWriter, r *http.Request, v any) bool {
	d := json.NewDecoder(r.Body)
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return false
	}
	return true
}

func encode(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // the caller is gone if this fails
}
