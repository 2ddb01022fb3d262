// Package dashboard serves a page in the browser with the calls of the mesh, live. It knows no Kubernetes: a Source says what there
// is. It may import internal/httpjson of this module only.
package dashboard

import (
	"context"
	"crypto/rand"
	"embed"
	"io/fs"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/httpjson"
)

//go:embed web
var web embed.FS

// Source says what the page shows.
type Source interface {
	// Traffic returns the calls since the last time. Its Seconds are 0 if that was never, or too long ago.
	Traffic(ctx context.Context) (Traffic, error)
	// Status returns what is shown of the mesh's state, as JSON.
	Status(ctx context.Context) (any, error)
}

// Options of a Dashboard.
type Options struct {
	Source Source
	// Interval is the time between two reads of the traffic.
	Interval time.Duration
	// Now is the clock, time.Now by default.
	Now func() time.Time
}

const (
	// watched is how long after the last request of a page the traffic is read, at least: browsers let a page that is not in front
	// ask once a minute.
	watched = 90 * time.Second
	// statusEvery is how old a status may be that is shown, and statusTime bounds the reading of one.
	statusEvery, statusTime = 15 * time.Second, time.Minute
)

// Dashboard is the page and its data.
type Dashboard struct {
	opt Options
	// token is part of the address, so that this page is for nobody else on this machine.
	token string
	asked chan struct{}

	mu      sync.Mutex
	last    time.Time // of a page's request
	traffic page
	history *history

	statusMu sync.Mutex
	status   any
	statusAt time.Time
}

// page is the answer for a page that asks for the traffic.
type page struct {
	At time.Time `json:"at"`
	// Seconds is the time that was looked at; 0 before the second read.
	Seconds  float64  `json:"seconds"`
	Interval float64  `json:"interval"`
	Graph    Graph    `json:"graph"`
	Calls    []Call   `json:"calls"`
	Missing  []string `json:"missing,omitempty"`
	// History has the last reads of the calls of one node, the oldest first.
	History []Point `json:"history,omitempty"`
	// Error is why there is nothing newer.
	Error string `json:"error,omitempty"`
}

// New returns a Dashboard with a token of its own.
func New(o Options) *Dashboard {
	if o.Now == nil {
		o.Now = time.Now
	}
	d := &Dashboard{opt: o, token: rand.Text(), asked: make(chan struct{}, 1)}
	d.forget()
	return d
}

// Path is that of the page, with the token.
func (d *Dashboard) Path() string { return "/" + d.token + "/" }

// Run reads the traffic again and again while a page is open, until ctx ends.
func (d *Dashboard) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if !d.isWatched() {
			d.forget()
			select {
			case <-d.asked:
			case <-ctx.Done():
			}
			continue
		}
		d.read(ctx)
		select {
		case <-time.After(d.opt.Interval):
		case <-ctx.Done():
		}
	}
}

func (d *Dashboard) isWatched() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.opt.Now().Sub(d.last) < max(watched, 3*d.opt.Interval)
}

// forget drops what there was before nobody looked.
func (d *Dashboard) forget() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.history = newHistory()
	d.traffic = d.page(Traffic{})
}

func (d *Dashboard) read(ctx context.Context) {
	t, err := d.opt.Source.Traffic(ctx)
	d.mu.Lock()
	defer d.mu.Unlock()
	if err != nil {
		d.traffic.Error = err.Error()
		return
	}
	p := d.page(t)
	if t.Seconds > 0 {
		d.history.add(p.Graph, t.Seconds)
	} else {
		d.history = newHistory()
	}
	d.history.quiet(&p.Graph)
	d.traffic = p
}

// page returns what a page shows of a read. Its lists are never null.
func (d *Dashboard) page(t Traffic) page {
	graph, calls := build(t)
	return page{At: d.opt.Now(), Seconds: t.Seconds, Interval: d.opt.Interval.Seconds(), Graph: graph, Calls: calls, Missing: t.Missing}
}

// Handler serves the page and its data, to a browser on this machine that knows the token.
func (d *Dashboard) Handler() http.Handler {
	files, err := fs.Sub(web, "web")
	if err != nil {
		panic(err) // the directory is embedded
	}
	mux := http.NewServeMux()
	mux.Handle("GET "+d.Path(), http.StripPrefix(d.Path(), http.FileServerFS(files)))
	mux.HandleFunc("GET "+d.Path()+"api/traffic", d.serveTraffic)
	mux.HandleFunc("GET "+d.Path()+"api/status", d.serveStatus)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A name that leads to this machine is a page of somebody else's (DNS rebinding).
		if !isLoopback(r.Host) {
			http.Error(w, "want localhost in the address", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Content-Security-Policy", "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Cache-Control", "no-store")
		mux.ServeHTTP(w, r)
	})
}

func isLoopback(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

// serveTraffic answers with the last read. The parameter node is the node whose history is wanted.
func (d *Dashboard) serveTraffic(w http.ResponseWriter, r *http.Request) {
	d.mu.Lock()
	d.last = d.opt.Now()
	p := d.traffic
	p.History = d.history.of(r.URL.Query().Get("node"))
	d.mu.Unlock()
	select {
	case d.asked <- struct{}{}:
	default:
	}
	_ = httpjson.Write(w, http.StatusOK, p)
}

// serveStatus answers with a status that is not too old, and reads it for all who ask.
func (d *Dashboard) serveStatus(w http.ResponseWriter, r *http.Request) {
	d.statusMu.Lock()
	defer d.statusMu.Unlock()
	if d.status == nil || d.opt.Now().Sub(d.statusAt) > statusEvery {
		// It is for all who ask: one who goes away does not end it.
		ctx, cancel := context.WithTimeout(context.WithoutCancel(r.Context()), statusTime)
		status, err := d.opt.Source.Status(ctx)
		cancel()
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		d.status, d.statusAt = status, d.opt.Now()
	}
	_ = httpjson.Write(w, http.StatusOK, d.status)
}
