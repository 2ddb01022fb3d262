package plaintext

import (
	"net/netip"
	"time"
)

// Envoy says when a connection or a request begins and ends, and each minute that it goes on (plainLogAgain in
// xds/envoy). What it says may be lost, so what has not been heard of for longer than liveFor is taken for ended.
const (
	liveFor = 150 * time.Second
	// maxLive bounds what is remembered of what lives; what comes on top is counted when it is told of again.
	maxLive = 8192
)

// peer is one side of a connection: the caller's socket, and the port that it has called.
type peer struct {
	socket netip.AddrPort
	port   uint16
}

// life is what goes on over a connection: itself, or the requests over it.
type life struct {
	count uint64
	last  time.Time
	by    key
}

// live follows what goes on.
type live map[peer]life

func (l live) began(p peer, by key, now time.Time) {
	if _, known := l[p]; known || l.room(now) {
		l[p] = life{l[p].count + 1, now, by}
	}
}

// goesOn is also the first that is heard of what began before the agent did.
func (l live) goesOn(p peer, by key, now time.Time) {
	if l[p].count == 0 {
		l.began(p, by, now)
		return
	}
	l[p] = life{l[p].count, now, by}
}

func (l live) ended(p peer, now time.Time) {
	if l[p].count <= 1 {
		delete(l, p)
		return
	}
	l[p] = life{l[p].count - 1, now, l[p].by}
}

// room forgets what must have ended; it reports whether there is room for more.
func (l live) room(now time.Time) bool {
	if len(l) < maxLive {
		return true
	}
	l.forget(now)
	return len(l) < maxLive
}

func (l live) forget(now time.Time) {
	for p, what := range l {
		if now.Sub(what.last) > liveFor {
			delete(l, p)
		}
	}
}

// of counts connections on which something lives, by caller and port. Requests over one are not added up: of those that
// begin and end fast, Envoy may drop the end alone.
func (l live) of(now time.Time) map[key]uint64 {
	l.forget(now)
	out := map[key]uint64{}
	for _, what := range l {
		out[what.by]++
	}
	return out
}
