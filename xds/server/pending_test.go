package server

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Changes wake a stream once.
func TestPendingChanges(t *testing.T) {
	p := newParts(t)
	woken := func() bool {
		select {
		case <-p.pending.wake:
			return true
		default:
			return false
		}
	}
	p.store.watch(envoy.ID{Type: envoy.ClusterType, Name: "a"}, &p.pending)
	p.store.watchAll(envoy.RouteType, &p.pending)
	p.set("1", "a")
	p.set("2", "a", "b")
	if !woken() || woken() {
		t.Error("two changes wake a stream once")
	}
	if p.pending.len() != 3 { // cluster a, and the new routes a and b
		t.Errorf("%d names are pending, want 3", p.pending.len())
	}
	equal(t, "taken", p.changed(), "a")
	if p.pending.len() != 0 {
		t.Errorf("%d names are left", p.pending.len())
	}
	p.set("3", "b") // its routes are not new any more, and nobody watches their name
	if woken() || p.pending.len() != 0 {
		t.Error("a change that nobody watches wakes a stream")
	}
}
