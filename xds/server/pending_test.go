package server

import (
	"runtime"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// The names of one change are taken together.
func TestChangeIsTakenAsAWhole(t *testing.T) {
	p := newParts(t)
	began, taken := make(chan struct{}), make(chan int, 1)
	p.store.mu.Lock() // as Apply does
	p.pending.changed(envoy.ID{Type: envoy.ClusterType, Name: "a"})
	go func() {
		close(began)
		taken <- len(p.pending.take(p.store))
	}()
	<-began
	for range 100 { // let it run, if it does not wait
		runtime.Gosched()
	}
	p.pending.changed(envoy.ID{Type: envoy.RouteType, Name: "a"})
	p.store.mu.Unlock()
	if n := <-taken; n != 2 {
		t.Errorf("%d names are taken, want 2", n)
	}
}

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
	p.store.watchAll(envoy.RouteType, "", &p.pending)
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
