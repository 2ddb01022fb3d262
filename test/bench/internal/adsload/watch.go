package adsload

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"
)

// Watch notes when clients take and acknowledge what it waits for, each client once.
type Watch struct {
	fleet *Fleet
	// met reports whether a client has what is waited for after a response.
	met func(c *client, k Kind, changed []*resource) bool

	mu   sync.Mutex
	want int
	seen map[*client]time.Time
	done chan struct{}
}

// WatchEndpoints waits for want clients to get the named endpoints.
func (f *Fleet) WatchEndpoints(name string, want int) *Watch {
	id := f.catalog.id(Endpoints, name)
	return f.newWatch(want, func(_ *client, k Kind, changed []*resource) bool {
		return k == Endpoints && slices.ContainsFunc(changed, func(r *resource) bool { return r.id == id })
	})
}

// WatchCall waits until a call to a destination would reach a Service, for want clients that ask for it.
func (f *Fleet) WatchCall(destination string, want int) *Watch {
	id := f.catalog.id(Routes, destination)
	demand := f.demand(id)
	return f.newWatch(want, func(c *client, _ Kind, _ []*resource) bool {
		return *at(&c.names[Clusters], demand) == answered && c.routed(id)
	})
}

func (f *Fleet) newWatch(want int, met func(*client, Kind, []*resource) bool) *Watch {
	w := &Watch{fleet: f, met: met, want: want, seen: map[*client]time.Time{}, done: make(chan struct{})}
	if want == 0 {
		close(w.done)
	}
	f.watch.Store(w)
	return w
}

// note is called with c locked.
func (f *Fleet) note(c *client, k Kind, changed []*resource, now time.Time) {
	w := f.watch.Load()
	if w == nil || !w.met(c, k, changed) {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, again := w.seen[c]; again {
		return
	}
	w.seen[c] = now
	if len(w.seen) == w.want {
		close(w.done)
	}
}

// Await tells how long after a moment each client had it, in ascending order.
func (w *Watch) Await(ctx context.Context, after time.Time) ([]time.Duration, error) {
	err := w.fleet.await(ctx, w.done)
	w.fleet.watch.CompareAndSwap(w, nil)
	w.mu.Lock()
	defer w.mu.Unlock()
	out := make([]time.Duration, 0, len(w.seen))
	for _, at := range w.seen {
		out = append(out, at.Sub(after))
	}
	slices.Sort(out)
	if err != nil {
		return out, fmt.Errorf("%w: %d of %d: %w", errLate, len(out), w.want, err)
	}
	return out, nil
}
