package client

import (
	"cmp"
	"context"
	"maps"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// maxFailures is how many failures a result keeps in full, unless the load says otherwise.
const maxFailures = 100

// Run is a load that is under way or done.
type Run struct {
	load   api.Load
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	res       api.Result
	latencies []time.Duration
}

// Start begins a load; it ends by its count, its duration, Stop or ctx.
func Start(ctx context.Context, l api.Load) (*Run, error) {
	if l.Timeout == 0 {
		l.Timeout = DefaultTimeout
	}
	call, closeCaller, err := caller(l)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	if l.Duration > 0 {
		ctx, cancel = context.WithTimeout(ctx, l.Duration)
	}
	r := &Run{load: l, cancel: cancel, done: make(chan struct{})}
	r.res = api.Result{Start: time.Now(), Pods: map[string]int{}, First: map[string]time.Time{}, Last: map[string]time.Time{}}
	go func() {
		defer close(r.done)
		defer closeCaller()
		defer cancel()
		if l.Rate > 0 {
			r.paced(ctx, call)
		} else {
			r.closed(ctx, call)
		}
	}()
	return r, nil
}

// caller gives the function that makes one call: over a shared connection unless Fresh.
func caller(l api.Load) (func(context.Context) api.Answer, func(), error) {
	nothing := func() {}
	switch {
	case l.Fresh:
		return func(ctx context.Context) api.Answer { return do(ctx, l.Call) }, nothing, nil
	case isGRPC(l.Kind):
		g, err := newGRPCCaller(l.Call)
		if err != nil {
			return nil, nil, err
		}
		return g.call, g.close, nil
	case l.Kind == api.HTTP || l.Kind == api.HTTP2 || l.Kind == api.HTTPStream:
		h, err := newHTTPCaller(l.Call, false)
		if err != nil {
			return nil, nil, err
		}
		return h.call, h.close, nil
	case l.Kind == api.Echo || l.Kind == api.MySQL:
		c := &lineCaller{c: l.Call, reconnect: l.Reconnect}
		return c.call, c.close, nil
	default:
		return func(ctx context.Context) api.Answer { return do(ctx, l.Call) }, nothing, nil
	}
}

// paced starts calls on time whether earlier ones are done or not, so that a slow answer does not
// hide what happens during it ("coordinated omission"). With a Concurrency a machine without CPU for them all makes calls
// late, and not so many at a time that each takes longer than its time.
func (r *Run) paced(ctx context.Context, call func(context.Context) api.Answer) {
	gap := time.Duration(float64(time.Second) / r.load.Rate)
	start := time.Now()
	room := make(chan struct{}, cmp.Or(r.load.Concurrency, math.MaxInt32))
	var wg sync.WaitGroup
	defer wg.Wait()
	for i := 0; r.load.Calls == 0 || i < r.load.Calls; i++ {
		if r.load.Duration > 0 && time.Duration(i)*gap >= r.load.Duration {
			return // ctx may end late on a busy machine
		}
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Until(start.Add(time.Duration(i) * gap))):
		}
		select {
		case <-ctx.Done():
			return
		case room <- struct{}{}:
		}
		wg.Go(func() {
			defer func() { <-room }()
			r.one(ctx, call)
		})
	}
}

// closed keeps Concurrency calls in flight.
func (r *Run) closed(ctx context.Context, call func(context.Context) api.Answer) {
	workers := max(1, r.load.Concurrency)
	tickets := make(chan struct{})
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range tickets {
				r.one(ctx, call)
			}
		})
	}
	defer wg.Wait()
	defer close(tickets)
	for i := 0; r.load.Calls == 0 || i < r.load.Calls; i++ {
		select {
		case <-ctx.Done():
			return
		case tickets <- struct{}{}:
		}
	}
}

// one makes a call that the end of the load does not cut short: what was begun counts.
func (r *Run) one(ctx context.Context, call func(context.Context) api.Answer) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.load.Timeout)
	defer cancel()
	r.mu.Lock()
	r.res.InFlight++
	r.mu.Unlock()
	start := time.Now()
	a := checked(r.load.Call, call(ctx))
	r.record(a, start, time.Now())
}

func (r *Run) record(a api.Answer, start, end time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.res.InFlight--
	r.res.Calls++
	r.latencies = append(r.latencies, end.Sub(start))
	if !a.OK {
		r.res.Failed++
		if start.After(r.res.LastFailed) {
			r.res.LastFailed = start
		}
		if len(r.res.Failures) < cmp.Or(r.load.Keep, maxFailures) {
			r.res.Failures = append(r.res.Failures, api.Failure{At: start, Elapsed: end.Sub(start), Error: a.Error})
		}
		return
	}
	r.res.Pods[a.Pod]++
	if _, ok := r.res.First[a.Pod]; !ok {
		r.res.First[a.Pod] = end
	}
	r.res.Last[a.Pod] = end
}

// Stop ends the load; calls in flight are finished and counted.
func (r *Run) Stop() { r.cancel() }

// Wait returns when the load is done.
func (r *Run) Wait() { <-r.done }

// Result gives the figures so far.
func (r *Run) Result() api.Result {
	r.mu.Lock()
	defer r.mu.Unlock()
	res := r.res
	res.Failures = slices.Clone(r.res.Failures)
	res.Pods, res.First, res.Last = maps.Clone(r.res.Pods), maps.Clone(r.res.First), maps.Clone(r.res.Last)
	select {
	case <-r.done:
		res.Done = true
	default:
	}
	sorted := slices.Sorted(slices.Values(r.latencies))
	if n := len(sorted); n > 0 {
		res.P50, res.P90, res.P99, res.Max = sorted[n/2], sorted[n*9/10], sorted[n*99/100], sorted[n-1]
	}
	return res
}
