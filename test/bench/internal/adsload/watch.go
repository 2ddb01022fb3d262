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
	match func(k Kind, r *resource) bool

	mu   sync.Mutex
	want int
	seen map[*client]time.Time
	done chan struct{}
}

// WatchEndpoints waits for want clients to get the named endpoints.
func (f *Fleet) WatchEndpoints(name string, want int) *Watch {
	id := f.catalog.id(Endpoints, name)
	return f.newWatch(want, func(k Kind, r *resource) bool { return k == Endpoints && r.id == id })
}

// WatchRoute waits for want clients to get the scope of a route configuration if that is on demand,
// else the route configuration.
func (f *Fleet) WatchRoute(name string, want int) *Watch {
	id := f.catalog.id(Routes, name)
	return f.newWatch(want, func(k Kind, r *resource) bool {
		return k == Routes && r.id == id || k == Scopes && r.onDemand && slices.Contains(r.refs, id)
	})
}

func (f *Fleet) newWatch(want int, match func(Kind, *resource) bool) *Watch {
	w := &Watch{fleet: f, match: match, want: want, seen: map[*client]time.Time{}, done: make(chan struct{})}
	if want == 0 {
		close(w.done)
	}
	f.watch.Store(w)
	return w
}

func (f *Fleet) note(c *client, k Kind, r *resource, now time.Time) {
	w := f.watch.Load()
	if w == nil || !w.match(k, r) {
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
