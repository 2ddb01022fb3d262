package plaintext

import (
	"net/netip"
	"slices"
	"time"
)

// Envoy reports when a connection or a request begins and ends, and each minute in between (plainLogAgain in
// xds/envoy). Reports may be lost, so a connection without a report for longer than liveFor counts as ended.
const (
	liveFor = 150 * time.Second
	// maxLive bounds what is remembered of what lives; what comes on top is counted when it is told of again.
	maxLive = 8192
)

// peer identifies a connection: the caller's socket and the called port.
type peer struct {
	socket netip.AddrPort
	port   uint16
}

// life is what goes on over a connection: itself, or the requests over it. Of HTTP there is no word for the end of a
// connection, so one without a request is remembered as idle while there is room.
type life struct {
	count uint64
	last  time.Time
	by    key
	http  bool
}

func (what life) idle() bool { return what.http && what.count == 0 }

// live follows what goes on.
type live map[peer]life

func (l live) began(p peer, by key, now time.Time, http bool) {
	if _, known := l[p]; known || l.room(now) {
		l[p] = life{l[p].count + 1, now, by, http}
	}
}

// goesOn is also the first that is heard of what began before the agent did.
func (l live) goesOn(p peer, by key, now time.Time, http bool) {
	if l[p].count == 0 {
		l.began(p, by, now, http)
		return
	}
	l[p] = life{l[p].count, now, by, http}
}

func (l live) ended(p peer, now time.Time) {
	what, known := l[p]
	switch {
	case !known:
	case what.count <= 1 && !what.http:
		delete(l, p)
	default:
		l[p] = life{max(what.count, 1) - 1, now, what.by, what.http}
	}
}

// room forgets what must have ended, or who has been idle for longest; it reports whether there is room for more.
func (l live) room(now time.Time) bool {
	if len(l) < maxLive {
		return true
	}
	var idle []peer
	for p, what := range l {
		if what.idle() {
			idle = append(idle, p)
		} else if now.Sub(what.last) > liveFor {
			delete(l, p)
		}
	}
	if len(l) < maxLive {
		return true
	}
	slices.SortFunc(idle, func(a, b peer) int { return l[a].last.Compare(l[b].last) })
	for _, p := range idle[:(len(idle)+1)/2] { // some at once, since looking for them takes time
		delete(l, p)
	}
	return len(l) < maxLive
}

func (l live) forget(now time.Time) {
	for p, what := range l {
		if now.Sub(what.last) > liveFor && !what.idle() {
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
		if !what.idle() {
			out[what.by]++
		}
	}
	return out
}

// Connection is one to the pod that lives, as far as is known.
type Connection struct {
	Caller netip.AddrPort
	Port   uint16
	// ID is the caller's SPIFFE ID; empty in plain text.
	ID string
	// HTTP is that HTTP is read on it. Of its end nobody will tell.
	HTTP bool
	// Busy is that a request is under way.
	Busy bool
	// Last is when something was heard of it.
	Last time.Time
}

// Live gives the connections that live: those in plain text, and those with mTLS that Envoy tells of.
func (c *Callers) Live() []Connection {
	var out []Connection
	for _, of := range []*Callers{c, c.meshed.callers} {
		of.mu.Lock()
		of.live.forget(of.now())
		for p, what := range of.live {
			out = append(out, Connection{p.socket, p.port, what.by.id, what.http, what.http && !what.idle(), what.last})
		}
		of.mu.Unlock()
	}
	return out
}

// EnvoyStarts forgets the connections of an Envoy that has ended.
func (c *Callers) EnvoyStarts() {
	for _, of := range []*Callers{c, c.meshed.callers} {
		of.mu.Lock()
		clear(of.live)
		of.mu.Unlock()
	}
}

// Heard receives after something was heard of a connection that lives. It is for one receiver.
func (c *Callers) Heard() <-chan struct{} { return c.heard }

// Ended forgets a connection that has ended, where nobody will tell of it.
func (c *Callers) Ended(conn Connection) {
	of := c
	if conn.ID != "" {
		of = c.meshed.callers
	}
	of.mu.Lock()
	defer of.mu.Unlock()
	if p := (peer{conn.Caller, conn.Port}); of.live[p].http {
		delete(of.live, p)
	}
}
