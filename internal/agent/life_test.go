package agent

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
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
		if i == 3 { // the pauses have become long enough to be seen
			r.awaitReady(503, "Envoy ended by itself: killed by signal: killed; it is started again after 400ms")
		}
		var code int
		eventually(t, func() bool {
			_, body := r.get("/metrics")
			return strings.Contains(body, fmt.Sprintf("mizzen_agent_envoy_restarts_total %d\n", i+1))
		}, func() string { return "the end was not counted" })
		began := time.Now()
		if code, _ = r.get("/startupz"); code != 200 { // who asks is kept waiting meanwhile
			t.Errorf("after %s: /startupz: %d, want 200", signal, code)
		}
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

// A pod that ends does not wait for the Envoy that would have been next.
func TestEndsBetweenTwoEnvoys(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	r, _ := startWithRoute(t, upstream.Listener.Addr(), httpListener, nil)
	for pause := time.Duration(0); pause < time.Second; pause = max(2*pause, firstPause) {
		r.awaitReady(200, "ready")
		_ = syscall.Kill(r.envoyPID(), syscall.SIGKILL)
		if pause > 0 {
			r.awaitReady(503, fmt.Sprintf("started again after %s", pause))
		} else {
			r.awaitReady(503, "")
		}
	}
	r.stop()
	began := time.Now()
	if err, ok := r.wait(10 * time.Second); !ok || err != nil || time.Since(began) > 500*time.Millisecond {
		t.Errorf("Run returned %v, %v after %s; want nil at once", err, ok, time.Since(began))
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
			[]time.Duration{0, 100 * ms, 200 * ms, 400 * ms, 800 * ms, 1600 * ms, 3200 * ms, 6400 * ms}, slices.Repeat([]time.Duration{longestPause}, 92),
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
