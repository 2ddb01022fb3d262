package identity

import (
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
)

func TestRenewalTimes(t *testing.T) {
	day := 24 * time.Hour
	for _, tt := range []struct {
		life   time.Duration
		chance float64
		want   time.Duration
	}{
		{day, 0, 12 * time.Hour}, {day, 0.5, day * 6 / 10}, {day, 1, day * 7 / 10},
		{2 * time.Minute, 0, time.Minute}, {0, 0.5, minRenewal}, {-time.Hour, 1, minRenewal},
	} {
		if got := renewAfter(tt.life, tt.chance).Round(time.Millisecond); got != tt.want {
			t.Errorf("life %s, chance %v: %s, want %s", tt.life, tt.chance, got, tt.want)
		}
	}
}

func TestServerTime(t *testing.T) {
	local := time.Date(2026, 1, 2, 3, 4, 5, 6e8, time.UTC)
	for name, tt := range map[string]struct {
		date time.Time
		now  time.Time
		skew time.Duration
	}{
		"no date":       {time.Time{}, local, 0},
		"the same":      {local.Truncate(time.Second), local, 0},
		"a bit behind":  {local.Add(-9 * time.Second), local, 0},
		"a day ahead":   {local.Add(24 * time.Hour), local.Add(24 * time.Hour), 24 * time.Hour},
		"an hour later": {local.Add(-time.Hour), local.Add(-time.Hour), -time.Hour},
	} {
		if now, skew := serverTime(local, tt.date); !now.Equal(tt.now) || skew != tt.skew {
			t.Errorf("%s: %s, %s; want %s, %s", name, now, skew, tt.now, tt.skew)
		}
	}
}

// With a clock that is off the renewal comes by the control plane's.
func TestClockIsOff(t *testing.T) {
	server := authoritytest.Start(t, time.Hour)
	server.Change(func(s *authoritytest.State) {
		s.Answer = func(w http.ResponseWriter, _ *http.Request) bool {
			w.Header().Set("Date", time.Now().Add(30*time.Minute).UTC().Format(http.TimeFormat))
			return false
		}
	})
	r := run(t, options(t, server.Addr, server.State().Roots...))
	r.awaitCertificate()
	now := r.current.Load()
	if now.life < 29*time.Minute || now.life > 31*time.Minute {
		t.Errorf("%s are left, want 30 minutes: the control plane's clock is half an hour ahead", now.life)
	}
	if left := time.Until(now.notAfter); left < 29*time.Minute || left > 31*time.Minute {
		t.Errorf("it ends in %s, want 30 minutes", left)
	}
	if !strings.Contains(r.log.String(), "this node's clock differs from the control plane's") {
		t.Errorf("no word of it:\n%s", r.log)
	}
}

func TestBackoff(t *testing.T) {
	refused, asked := &refusedError{status: 403}, &refusedError{status: 429, after: 7 * time.Second}
	none, long := &credentials{}, &credentials{certificate: newCertificate(t), notAfter: time.Now().Add(time.Hour)}
	short := &credentials{certificate: long.certificate, notAfter: time.Now().Add(20 * time.Second)}
	ended := &credentials{certificate: long.certificate, notAfter: time.Now().Add(-time.Hour)}
	for _, tt := range []struct {
		name     string
		held     *credentials
		failures int
		err      error
		min, max time.Duration
	}{
		{"first", none, 0, os.ErrClosed, 100 * time.Millisecond, 200 * time.Millisecond},
		{"third", none, 2, os.ErrClosed, 400 * time.Millisecond, 800 * time.Millisecond},
		{"a pod waits", none, 1000, os.ErrClosed, busyBackoff / 2, busyBackoff},
		{"refused", none, 1000, refused, slowBackoff / 2, slowBackoff},
		{"asked to wait", none, 0, asked, 7 * time.Second, 7 * time.Second},
		{"time enough", long, 1000, os.ErrClosed, slowBackoff / 2, slowBackoff},
		{"runs out", short, 1000, os.ErrClosed, time.Second / 2, 2 * time.Second},
		{"ended", ended, 1000, refused, time.Second / 2, time.Second},
	} {
		i := &Identity{}
		i.current.Store(tt.held)
		for range 100 {
			if got := i.backoff(tt.failures, tt.err); got < tt.min || got > tt.max {
				t.Errorf("%s: %s, want %s to %s", tt.name, got, tt.min, tt.max)
			}
		}
	}
}

func TestKindIsTheSameForTheSame(t *testing.T) {
	dial := func(port int) error {
		return &net.OpError{Op: "read", Net: "tcp", Source: &net.TCPAddr{Port: port}, Err: os.NewSyscallError("read", os.ErrDeadlineExceeded)}
	}
	if a, b := kind(dial(1)), kind(dial(2)); a != b {
		t.Errorf("%q and %q", a, b)
	}
	kinds := map[string]bool{kind(dial(1)): true, kind(&refusedError{status: 401}): true, kind(&refusedError{status: 403}): true}
	if len(kinds) != 3 {
		t.Errorf("different failures look alike: %v", slices.Collect(maps.Keys(kinds)))
	}
}
