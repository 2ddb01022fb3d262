package chaos

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func TestReport(t *testing.T) {
	r := &Report{
		options: Options{Seed: 7, Duration: time.Minute, Rate: 10, Quick: true, Only: []string{"pod-deleted", "routes"}}, began: began,
		impossible: []string{"packets-delayed: the kernel has no sch_netem"},
		tallies: []tally{
			{caller: toServer, kind: "grpc", target: "server:50051", calls: 900, p50: 1234 * time.Microsecond, p99: 45 * time.Millisecond, max: 1500 * time.Millisecond,
				failures: []failure{call(toServer, 980, 1010), call(toServer, 2000, 2500)}},
			{caller: toStrict, calls: 100, failures: []failure{call(toStrict, 100, 110)}},
		},
		events: []*event{
			{name: "application-killed", target: "pod/server-1", begun: at(900), done: at(1000), settled: at(4000), excuses: []excuse{
				{of: answeredBy("server"), from: at(1000), until: at(1000), atOnce: true}}},
			{name: "routes", target: "HTTPRoute/routed", begun: at(9000), done: at(9100), err: errors.New("no status")},
		},
		checks: []check{{"events of one object", "3", "at most 50", true}},
	}
	text := r.String()
	for _, want := range []string{
		"[   2.0s] to the server",
		"after 500ms: broken",
		"application-killed pod/server-1 began at [   0.9s]: the call began 1.1s and ended 1.6s after; done after 100ms; settled after 3.1s",
		"no fault went on, nor had for 10s",
		"to the server  900   2       1        1.23ms  45ms  1.5s",
		"✗  failed calls that no fault excuses           2 of 1000  0",
		"✓  events of one object                         3          at most 50",
		"not possible here: packets-delayed: the kernel has no sch_netem",
		"go run ./test/chaos -seed 7 -duration 1m0s -rate 10 -quick -only pod-deleted,routes\n",
		"no status",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	if got := strings.Join(r.Violations(), "\n"); got != "failed calls that no fault excuses: 2 of 1000, want 0\nfaults from which something did not recover: 1 of 2, want 0" {
		t.Errorf("violations:\n%s", got)
	}
}

// What is lost of the failures is excused by nobody, and a run without a fault shows nothing.
func TestViolations(t *testing.T) {
	r := &Report{tallies: []tally{{caller: toServer, calls: 5, lost: 2}}}
	if got := strings.Join(r.Violations(), "\n"); got != "failed calls that no fault excuses: 2 of 5, want 0\nfaults that were done: 0, want 1 or more" {
		t.Errorf("violations:\n%s", got)
	}
}
