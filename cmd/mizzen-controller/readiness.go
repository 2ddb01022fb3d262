package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

// readiness answers /readyz from named parts. A part with an error makes the replica not ready; a
// part with a note is serving, and says what is not as it should be.
type readiness struct {
	mu           sync.Mutex
	parts        []part
	shuttingDown atomic.Bool
}

type part struct {
	name  string
	check func() (note string, err error)
}

var errShuttingDown = errors.New("on its way down")

func newReadiness() *readiness {
	r := &readiness{}
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
	for _, p := range parts {
		note, err := p.check()
		switch {
		case err != nil:
			status = http.StatusServiceUnavailable
			fmt.Fprintf(body, "[-] %s: %v\n", p.name, err)
		case note != "":
			fmt.Fprintf(body, "[!] %s: %s\n", p.name, note)
		default:
			fmt.Fprintf(body, "[+] %s\n", p.name)
		}
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	if status == http.StatusOK {
		fmt.Fprintln(w, "ready")
	} else {
		fmt.Fprintln(w, "not ready")
	}
	fmt.Fprint(w, body)
}
