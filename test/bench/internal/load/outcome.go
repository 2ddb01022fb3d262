package load

import (
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Outcome is what a load achieved. Latencies, in microseconds, are taken at a fixed rate only.
type Outcome struct {
	Requests  int
	Latencies []float64
}

// Quantile is the latency that so much of all requests had at most.
func (o Outcome) Quantile(q float64) float64 {
	if len(o.Latencies) == 0 {
		return 0
	}
	slices.Sort(o.Latencies)
	return o.Latencies[int(q*float64(len(o.Latencies)-1))]
}

// Call makes one request and reads the whole answer.
type Call func() error

// paced calls at the fixed rate, evenly, over the scenario's connections and streams; at a rate of 0
// as fast as the answers come.
func paced(calls []Call, d time.Duration, rate int) (Outcome, error) {
	type result struct {
		Outcome
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
	var all Outcome
	var failed error
	for range calls {
		r := <-results
		all.Requests += r.Requests
		all.Latencies = append(all.Latencies, r.Latencies...)
		if r.err != nil {
			failed = r.err
		}
	}
	return all, failed
}

// repeat calls until the end. A call that cannot begin in time, because the one before is late, is
// late itself: that counts.
func repeat(c Call, due, end time.Time, pace time.Duration) (Outcome, error) {
	var o Outcome
	for ; due.Before(end) && time.Now().Before(end); o.Requests++ {
		sleepUntil(due)
		if err := c(); err != nil {
			return o, err
		}
		if pace > 0 {
			o.Latencies = append(o.Latencies, float64(time.Since(due))/1e3)
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
