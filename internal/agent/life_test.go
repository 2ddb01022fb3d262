package agent

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

func TestEnvoyEndsBeforeItHasServed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		signal syscall.Signal
		code   int
		how    string
	}{
		{"crash", syscall.SIGSEGV, 128 + 11, "segmentation fault"},
		{"killed", syscall.SIGKILL, 128 + 9, "killed"},
		{"leaves", syscall.SIGTERM, 1, "exit status 0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := start(t, startControlPlane(t, listentest.FreeAddress(t)).addr, nil)
			r.awaitReady(503, "connected, no clusters yet")
			_ = syscall.Kill(r.envoyPID(), tt.signal)
			err, ok := r.wait(10 * time.Second)
			var exit *ExitError
			if !ok || !errors.As(err, &exit) || exit.Code != tt.code || !strings.Contains(exit.Error(), tt.how) {
				t.Errorf("Run returned %v, want code %d and %q", err, tt.code, tt.how)
			}
		})
	}
}

// Whatever ends an Envoy that has served, the pod has another one soon, with the same configuration.
func TestEnvoyIsStartedAgain(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), httpListener, nil)
	for i, signal := range []syscall.Signal{syscall.SIGSEGV, syscall.SIGKILL, syscall.SIGTERM, syscall.SIGKILL} {
		before := r.envoyPID()
		_ = syscall.Kill(before, signal)
		r.awaitRestarts(i + 1)
		began := time.Now()
		// Who asks for the start is kept waiting, too.
		eventually(t, func() bool { code, _ := r.get("/startupz"); return code == 200 }, func() string { return "/startupz does not say 200" })
		t.Logf("after %s: ready again after %s", signal, time.Since(began).Round(time.Millisecond))
		r.awaitReady(200, "ready")
		if now := r.envoyPID(); now == before {
			t.Errorf("after %s: the same process", signal)
		}
		res, err := http.Get("http://" + proxy)
		if err != nil {
			t.Fatalf("after %s: %v", signal, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("after %s: status %d", signal, res.StatusCode)
		}
	}
	r.stop()
	if err, ok := r.wait(10 * time.Second); !ok || err != nil {
		t.Errorf("Run returned %v, %v; want nil", err, ok)
	}
}

// awaitRestarts waits until the agent has counted so many.
func (r *running) awaitRestarts(n int) {
	r.t.Helper()
	eventually(r.t, func() bool {
		_, body := r.get("/metrics")
		return strings.Contains(body, fmt.Sprintf("mizzen_agent_envoy_restarts_total %d\n", n))
	}, func() string { return fmt.Sprintf("not %d restarts", n) })
}

// A pod that ends does not wait for the Envoy that would have been next.
func TestEndsBetweenTwoEnvoys(t *testing.T) {
	var log syncBuffer
	cp := startControlPlane(t, listentest.FreeAddress(t))
	cp.send(clusterType)
	cp.send(listenerType)
	r := startLogging(t, &log, cp.addr, nil)
	kills := 0
	for pause := time.Duration(0); pause < longestPause; pause = max(2*pause, firstPause) {
		r.awaitReady(200, "ready")
		_ = syscall.Kill(r.envoyPID(), syscall.SIGKILL)
		kills++
		r.awaitRestarts(kills)
	}
	r.stop() // within the last pause
	if err, ok := r.wait(10 * time.Second); !ok || err != nil {
		t.Errorf("Run returned %v, %v; want nil", err, ok)
	}
	if n := strings.Count(log.String(), "Envoy started"); n != kills {
		t.Errorf("Envoy was started %d times, want %d", n, kills)
	}
}

// Between two Envoys the agent is not ready, and says why.
func TestReadinessBetweenTwoEnvoys(t *testing.T) {
	s := testSettings("127.0.0.1:1", "127.0.0.1")
	s.Dir = t.TempDir()
	a := newAgent(s, slog.New(slog.DiscardHandler))
	a.endLife(errors.New("Envoy ended by itself: killed by signal: killed"), time.Second, 400*time.Millisecond)
	const want = "Envoy ended by itself: killed by signal: killed; it is started again after 400ms"
	if err := a.readiness(t.Context()); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

func TestPauseBeforeTheNextLife(t *testing.T) {
	const soon, late = time.Second, steadyAfter
	ms := time.Millisecond
	for name, tt := range map[string]struct {
		lived []time.Duration
		want  []time.Duration
	}{
		"seldom":            {[]time.Duration{late, late, late}, []time.Duration{0, 0, 0}},
		"the first is soon": {[]time.Duration{soon, late}, []time.Duration{0, 0}},
		"again and again":   {[]time.Duration{late, soon, soon, soon, late, soon}, []time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 0, 100 * ms}},
		"for long": {slices.Repeat([]time.Duration{soon}, 100), slices.Concat(
			[]time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms}, slices.Repeat([]time.Duration{longestPause}, 94),
		)},
	} {
		t.Run(name, func(t *testing.T) {
			var r restarts
			var got []time.Duration
			for _, lived := range tt.lived {
				got = append(got, r.pause(lived))
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("%v, want %v", got, tt.want)
			}
		})
	}
}

// syncBuffer is written by one goroutine and read by another.
type syncBuffer struct {
	mu   sync.Mutex
	text strings.Builder
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}
