package plaintext

import (
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// A connection lives until its end is told, or nothing is heard of it any more; the beginning of one may be older than
// the agent.
func TestLive(t *testing.T) {
	from, other := netip.MustParseAddrPort("10.0.0.5:4001"), netip.MustParseAddrPort("10.0.0.5:4002")
	to := netip.MustParseAddrPort("10.0.0.9:80")
	type event struct {
		from netip.AddrPort
		kind string
		wait time.Duration // before it
	}
	for name, c := range map[string]struct {
		events []event
		wait   time.Duration
		want   uint64
	}{
		"open":                           {[]event{{from, connection, 0}}, time.Minute, 1},
		"two":                            {[]event{{from, connection, 0}, {other, connection, 0}}, 0, 2},
		"ended":                          {[]event{{from, connection, 0}, {other, connection, 0}, {from, ending, time.Hour}}, 0, 0},
		"one of two ended":               {[]event{{from, connection, 0}, {other, connection, 0}, {from, ending, time.Minute}}, 0, 1},
		"told again each minute":         {[]event{{from, connection, 0}, {from, "", 2 * time.Minute}, {from, "", 2 * time.Minute}}, time.Minute, 1},
		"older than the agent":           {[]event{{from, "", 0}}, 0, 1},
		"its end is lost":                {[]event{{from, connection, 0}}, liveFor + time.Second, 0},
		"requests over one":              {[]event{{from, request, 0}, {from, request, 0}, {from, ending, 0}}, 0, 1},
		"all requests over one ended":    {[]event{{from, request, 0}, {from, request, 0}, {from, ending, 0}, {from, ending, 0}}, 0, 0},
		"an end of which nobody knows":   {[]event{{from, connection, 0}, {other, ending, 0}}, 0, 1},
		"its beginning is told too late": {[]event{{from, ending, 0}, {from, "", 0}}, liveFor + time.Second, 0},
	} {
		t.Run(name, func(t *testing.T) {
			now := start
			callers := New(Options{Registerer: prometheus.NewRegistry(), Now: func() time.Time { return now }})
			for _, e := range c.events {
				now = now.Add(e.wait)
				callers.saw(e.from, to, "", e.kind)
			}
			now = now.Add(c.wait)
			if got := callers.Snapshot().Callers[0].Live; got != c.want {
				t.Errorf("%d live, want %d", got, c.want)
			}
		})
	}
}

func TestLiveIsBounded(t *testing.T) {
	const extra = 100
	l, now := live{}, start
	socket := func(i int) peer {
		return peer{netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1), 80}
	}
	for i := range maxLive + extra {
		l.began(socket(i), key{}, now, false)
	}
	if len(l) != maxLive {
		t.Errorf("%d are remembered, want %d", len(l), maxLive)
	}
	l.began(socket(maxLive+extra), key{}, now.Add(liveFor+time.Second), false)
	if len(l) != 1 {
		t.Errorf("%d are remembered after all others must have ended", len(l))
	}
}

// Of HTTP nobody tells the end of a connection: one without a request is remembered as long as there is room.
func TestIdleHTTP(t *testing.T) {
	now := start
	c := New(Options{Registerer: prometheus.NewRegistry(), Now: func() time.Time { return now }})
	to := netip.MustParseAddrPort("10.0.0.9:80")
	from := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
	}
	c.saw(from(0), to, "", request)
	busy := Connection{Caller: from(0), Port: 80, HTTP: true, Busy: true, Last: now}
	if got := c.Live(); len(got) != 1 || got[0] != busy {
		t.Errorf("with a request: %+v, want %+v", got, busy)
	}
	c.saw(from(0), to, "", ending)
	now = now.Add(time.Hour)
	idle := Connection{Caller: from(0), Port: 80, HTTP: true, Last: start}
	if got := c.Live(); len(got) != 1 || got[0] != idle {
		t.Errorf("idle: %+v, want %+v", got, idle)
	}
	if n := c.Snapshot().Callers[0].Live; n != 0 {
		t.Errorf("%d are told to be open", n)
	}
	for i := range maxLive { // one more than there is room for
		now = now.Add(time.Millisecond)
		c.saw(from(i+1), to, "", request)
		c.saw(from(i+1), to, "", ending)
	}
	got := c.Live()
	if len(got) > maxLive || len(got) < maxLive/2 || slices.Contains(got, idle) {
		t.Errorf("%d are remembered, the oldest among them: %t", len(got), slices.Contains(got, idle))
	}
	c.Ended(got[0])
	if n := len(c.Live()); n != len(got)-1 {
		t.Errorf("%d are remembered after one has ended, want %d", n, len(got)-1)
	}
}
