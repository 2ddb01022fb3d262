package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// runEnv makes the test binary mizzen-proxy itself.
const runEnv = "MIZZEN_TEST_RUN"

func TestMain(m *testing.M) {
	if os.Getenv(runEnv) != "" {
		os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

// The garbage collector rests: the agent with its own settings takes little more CPU for a number of scrapes than one whose
// collector hardly ever runs. Ticks of both are counted over the same events, so a busy machine makes no difference.
func TestCollectorRests(t *testing.T) {
	const scrapes, allowed, slack = 100, 2, 10
	own := ticksOf(t, scrapes)
	free := ticksOf(t, scrapes, "GOGC=400", "GOMEMLIMIT=1GiB")
	t.Logf("%d scrapes: %d ticks with the agent's own settings, %d with a collector that hardly runs", scrapes, own, free)
	if own > allowed*free+slack {
		t.Errorf("%d scrapes take %d ticks, and %d with a collector that hardly runs; want at most %d times as many", scrapes, own, free, allowed)
	}
}

// ticksOf gives the CPU ticks that an agent takes for so many scrapes of its metrics.
func ticksOf(t *testing.T, scrapes int, env ...string) int {
	t.Helper()
	s := startSidecar(t, env, "--control-plane=127.0.0.1:1", "--concurrency=1", "--log-level=error")
	defer s.stop()
	scrape := func() error {
		res, err := http.Get(s.url("/metrics"))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		body, err := io.ReadAll(res.Body)
		if err == nil && !strings.Contains(string(body), "envoy_control_plane_connected_state") {
			err = fmt.Errorf("no metrics of Envoy: %s", res.Status)
		}
		return err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := scrape(); err == nil {
			break
		} else if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	before := ticks(t, s.pid)
	for range scrapes {
		if err := scrape(); err != nil {
			t.Fatal(err)
		}
	}
	return ticks(t, s.pid) - before
}

// ticks are the user's and the system's of a process. https://man7.org/linux/man-pages/man5/proc_pid_stat.5.html
func ticks(t *testing.T, pid int) int {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	fields := strings.Fields(rest)
	sum := 0
	for _, field := range fields[11:13] {
		n, err := strconv.Atoi(field)
		if err != nil {
			t.Fatal(err)
		}
		sum += n
	}
	return sum
}
