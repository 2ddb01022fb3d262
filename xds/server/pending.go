package server

import (
	"sync"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// pending collects the changes that the store reports to one stream, until the stream takes them. It is the stream's
// watcher, and it never blocks the store.
type pending struct {
	// wake is readable when there is something to take.
	wake chan struct{}
	mu   sync.Mutex
	ids  map[envoy.ID]struct{}
}

func newPending() pending { return pending{wake: make(chan struct{}, 1)} }

// changed notes a name to look at.
func (p *pending) changed(id envoy.ID) {
	p.mu.Lock()
	if p.ids == nil {
		p.ids = map[envoy.ID]struct{}{}
	}
	p.ids[id] = struct{}{}
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns the names that have changed: of each change of the store all, or none.
func (p *pending) take(store *Store) (ids map[envoy.ID]struct{}) {
	store.between(func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		ids, p.ids = p.ids, nil
	})
	return ids
}

func (p *pending) len() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.ids)
}
