package netlimit_test

import (
	"context"
	"net/netip"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

func TestClient(t *testing.T) {
	for remote, want := range map[string]string{
		"10.0.0.1:80": "10.0.0.1", "[::ffff:10.0.0.1]:80": "10.0.0.1", "[fe80::1%eth0]:80": "fe80::1", "[fd00::1]:80": "fd00::1",
	} {
		if got := netlimit.Client(remote); got != netip.MustParseAddr(want) {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	for _, remote := range []string{"", "@", "10.0.0.1", "name:80"} {
		if got := netlimit.Client(remote); got.IsValid() {
			t.Errorf("%q: %s, want none", remote, got)
		}
	}
}

// One client cannot take the places of the others, nor all of them.
func TestLimit(t *testing.T) {
	l := &netlimit.Limit[string]{All: 4, Each: 2, Queue: 3}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	var leave []func()
	enter := func(client string) {
		t.Helper()
		out, ok := l.Try(client)
		if !ok {
			t.Fatalf("%s has no place", client)
		}
		leave = append(leave, out)
	}
	enter("a")
	enter("a")
	refused := func(client, why string) {
		t.Helper()
		if _, ok := l.Try(client); ok {
			t.Errorf("%s gets a place: %s", client, why)
		}
		if _, ok := l.Wait(ended, client); ok {
			t.Errorf("%s waits for a place: %s", client, why)
		}
	}
	refused("a", "it has two")
	enter("b")
	enter("c")
	refused("d", "all have four")

	waits := make(chan func())
	for range 3 {
		go func() {
			out, ok := l.Wait(t.Context(), "d")
			if !ok {
				t.Error("who waits gets no place")
			}
			waits <- out
		}()
	}
	for l.Len() < 4+3 {
		runtime.Gosched()
	}
	if _, ok := l.Wait(t.Context(), "d"); ok {
		t.Error("the queue has no end")
	}
	for _, out := range leave {
		out()
		out() // a second time counts for nothing
	}
	for range 3 {
		(<-waits)()
	}
	if l.Len() > 0 {
		t.Errorf("%d left behind", l.Len())
	}
}

// Without bounds everybody has a place.
func TestNoLimit(t *testing.T) {
	var l netlimit.Limit[int]
	for i := range 1000 {
		if _, ok := l.Try(i % 2); !ok {
			t.Fatalf("the %d. has no place", i)
		}
	}
}

func TestLimitConcurrently(t *testing.T) {
	l := &netlimit.Limit[int]{All: 3, Each: 2}
	var wg sync.WaitGroup
	var all, most atomic.Int64
	for i := range 8 {
		wg.Go(func() {
			for range 200 {
				leave, ok := l.Wait(t.Context(), i%3)
				if !ok {
					t.Error("no place")
					return
				}
				now := all.Add(1)
				for seen := most.Load(); now > seen; seen = most.Load() {
					if most.CompareAndSwap(seen, now) {
						break
					}
				}
				all.Add(-1)
				leave()
			}
		})
	}
	wg.Wait()
	if most.Load() > 3 || l.Len() > 0 {
		t.Errorf("%d at a time, %d left behind", most.Load(), l.Len())
	}
}
