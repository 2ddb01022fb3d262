package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// outcome is what a load achieved. Latencies, in microseconds, are taken at a fixed rate only.
type outcome struct {
	requests  int
	latencies []float64
}

func (o outcome) quantile(q float64) float64 {
	if len(o.latencies) == 0 {
		return 0
	}
	slices.Sort(o.latencies)
	return o.latencies[int(q*float64(len(o.latencies)-1))]
}

var succeeded = regexp.MustCompile(`requests: \d+ total, \d+ started, \d+ done, (\d+) succeeded, (\d+) failed`)

// h2load asks as fast as the answers come. (Its fixed rate is one of bursts, each 10 ms.)
func (s scenario) h2load(target string, d time.Duration) (outcome, error) {
	dir, err := os.MkdirTemp("", "mizzen-datapath-")
	if err != nil {
		return outcome{}, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "body"), grpcMessage, 0o600); err != nil {
		return outcome{}, err
	}
	args := []string{"-c", strconv.Itoa(s.conns), "-m", strconv.Itoa(s.streams), "-D", fmt.Sprintf("%dms", d.Milliseconds())}
	switch s.kind {
	case http1:
		args = append(args, "--h1")
	case grpc:
		args = append(args, "-H", "content-type: application/grpc", "-H", "te: trailers", "-d", "body")
	}
	cmd := exec.Command("h2load", append(args, "http://"+target+s.path())...) //nolint:noctx // it has a duration
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		return outcome{}, fmt.Errorf("h2load: %w\n%s", err, out)
	}
	m := succeeded.FindSubmatch(out)
	if m == nil || string(m[2]) != "0" {
		return outcome{}, fmt.Errorf("h2load: want no failed request:\n%s", out)
	}
	n, err := strconv.Atoi(string(m[1]))
	return outcome{requests: n}, err
}

// call makes one request and reads the whole answer.
type call func() error

// paced calls at the fixed rate, evenly, over the scenario's connections and streams; at a rate of 0
// as fast as the answers come.
func (s scenario) paced(calls []call, d time.Duration, rate int) (outcome, error) {
	type result struct {
		outcome
		err error
	}
	results := make(chan result)
	start := time.Now()
	for i, c := range calls {
		var pace, first time.Duration
		if rate > 0 {
			pace = time.Second * time.Duration(len(calls)) / time.Duration(rate)
			first = pace * time.Duration(i) / time.Duration(len(calls))
		}
		go func() {
			o, err := repeat(c, start.Add(first), start.Add(d), pace)
			results <- result{o, err}
		}()
	}
	var all outcome
	var failed error
	for range calls {
		r := <-results
		all.requests += r.requests
		all.latencies = append(all.latencies, r.latencies...)
		if r.err != nil {
			failed = r.err
		}
	}
	return all, failed
}

// repeat calls until the end. A call that cannot begin in time, because the one before is late, is
// late itself: that counts.
func repeat(c call, due, end time.Time, pace time.Duration) (outcome, error) {
	var o outcome
	for ; due.Before(end) && time.Now().Before(end); o.requests++ {
		sleepUntil(due)
		if err := c(); err != nil {
			return o, err
		}
		if pace > 0 {
			o.latencies = append(o.latencies, float64(time.Since(due))/1e3)
			due = due.Add(pace)
		}
	}
	return o, nil
}

// sleepUntil is exact to some 0.1 ms; the runtime's own timers are to a whole one.
func sleepUntil(t time.Time) {
	if d := time.Until(t); d > 0 {
		ts := unix.NsecToTimespec(d.Nanoseconds())
		_ = unix.Nanosleep(&ts, nil) // a signal may end it early, which does no harm
	}
}
