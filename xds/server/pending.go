package server

import (
	"sync"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// pending collects the changes that the store reports to one stream, until the stream takes them. It is the stream's
// watcher, and it never blocks the store.
type pending struct {
	// wake is readable when there is something to take, or a followed type has changed.
	wake chan struct{}
	mu   sync.Mutex
	ids  map[envoy.ID]struct{}
	// seen is the store's revision at the last take. Only the stream's goroutine uses it.
	seen uint64
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
	p.followed()
}

// followed notes a change of a followed type.
func (p *pending) followed() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// take returns the names that have changed, all of them up to the revision seen.
func (p *pending) take(store *Store) map[envoy.ID]struct{} {
	var ids map[envoy.ID]struct{}
	p.seen = store.between(func() {
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
