package xds

import (
	"time"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// reconnects are Services whose callers must connect again, each after a delay.
type reconnects struct {
	delay time.Duration
	due   map[mesh.Key]time.Time
	// timer fires when the first of them is due.
	timer *time.Timer
}

func newReconnects(delay time.Duration) *reconnects {
	r := &reconnects{delay: delay, timer: time.NewTimer(time.Hour), due: map[mesh.Key]time.Time{}}
	r.timer.Stop()
	return r
}

// later restarts the delay of Services. If a caller connected again before the sidecars have the last change, they would
// judge it without that change.
func (r *reconnects) later(services sets.Set[mesh.Key]) {
	for key := range services {
		r.due[key] = time.Now().Add(r.delay)
	}
	r.wind()
}

// take removes the Services that are due, and returns them.
func (r *reconnects) take() []mesh.Key {
	var out []mesh.Key
	now := time.Now()
	for key, at := range r.due {
		if !at.After(now) {
			delete(r.due, key)
			out = append(out, key)
		}
	}
	r.wind()
	return out
}

func (r *reconnects) wind() {
	var first time.Time
	for _, at := range r.due {
		if first.IsZero() || at.Before(first) {
			first = at
		}
	}
	if !first.IsZero() {
		r.timer.Reset(time.Until(first))
	}
}
