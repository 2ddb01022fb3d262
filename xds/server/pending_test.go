package server

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// Changes wake a stream once, and are taken with the revision up to which they are complete.
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
	p.store.watchAll(envoy.ScopedRouteType, &p.pending)
	p.set("1", "a")
	p.set("2", "a", "b")
	if !woken() || woken() {
		t.Error("two changes wake a stream once")
	}
	if p.pending.len() != 1 {
		t.Errorf("%d names are pending, want 1", p.pending.len())
	}
	equal(t, "taken", p.changed(), "a")
	if p.pending.seen != 2 || p.pending.len() != 0 {
		t.Errorf("revision %d is seen and %d names are left, want 2 and 0", p.pending.seen, p.pending.len())
	}
	p.set("3", "b") // its scope belongs to a followed type
	if !woken() || p.pending.len() != 0 {
		t.Error("a change of a followed type wakes a stream, and adds no name")
	}
}
