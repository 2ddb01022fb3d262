package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/go-logr/logr"
)

// readiness answers /readyz from named parts. A part with an error makes the replica unready. A part with a note
// serves, but reports a problem.
type readiness struct {
	log          logr.Logger
	mu           sync.Mutex
	parts        []part
	logged       string // the last logged state
	shuttingDown atomic.Bool
}

type part struct {
	name  string
	check func() (note string, err error)
}

var errShuttingDown = errors.New("shutting down")

func newReadiness(log logr.Logger) *readiness {
	r := &readiness{log: log}
	r.add("shutdown", func() (string, error) {
		if r.shuttingDown.Load() {
			return "", errShuttingDown
		}
		return "", nil
	})
	return r
}

func (r *readiness) add(name string, check func() (note string, err error)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.parts = append(r.parts, part{name, check})
}

// ServeHTTP answers 200 or 503, with one line a part: [+] in order, [!] serving with a flaw, [-] not ready.
func (r *readiness) ServeHTTP(w http.ResponseWriter, _ *http.Request) {
	r.mu.Lock()
	parts := r.parts
	r.mu.Unlock()
	status, body := http.StatusOK, &strings.Builder{}
	var why []string
	for _, p := range parts {
		note, err := p.check()
		switch {
		case err != nil:
			status = http.StatusServiceUnavailable
			fmt.Fprintf(body, "[-] %s: %v\n", p.name, err)
			why = append(why, p.name+": "+err.Error())
		case note != "":
			fmt.Fprintf(body, "[!] %s: %s\n", p.name, note)
		default:
			fmt.Fprintf(body, "[+] %s\n", p.name)
		}
	}
	r.report(strings.Join(why, "; "))
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if status == http.StatusOK {
		fmt.Fprintln(w, "ready")
	} else {
		fmt.Fprintln(w, "not ready")
	}
	fmt.Fprint(w, body)
}

// report logs changes only, because the kubelet asks every few seconds.
func (r *readiness) report(why string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.logged == why {
		return
	}
	r.logged = why
	if why == "" {
		r.log.Info("ready")
		return
	}
	r.log.Info("not ready", "why", why)
}
