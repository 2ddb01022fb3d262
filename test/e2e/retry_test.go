package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// unavailable is the gRPC code of the storm.
const unavailable = 14

// Scenario 10: a server that commits and then fails. By default nothing is retried that may have been executed:
// 10,000 calls are 10,000 executions. An HTTPRoute that asks for retries gets them.
func TestRetrySafety(t *testing.T) {
	alone(t)
	const calls = 10_000
	e := newRouteEnv(t)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, httpCall, grpcCall)
	post := api.Call{Kind: api.HTTP, Method: "POST", Target: httpCall.Target + "status?code=503", Body: 100}
	failing := grpcCall
	failing.Code = unavailable
	for name, c := range map[string]api.Call{"POSTs answered 503": post, "gRPC calls answered UNAVAILABLE": failing} {
		before := e.executions()
		r := e.startLoad(client, api.Load{Call: c, Calls: calls, Concurrency: 8}).wait(2 * time.Minute)
		executed := e.executions() - before
		figure(t, fmt.Sprintf("executions of %d %s", r.Calls, name), fmt.Sprint(executed), fmt.Sprint(calls))
		if r.Calls != calls || r.Failed != calls || executed != calls {
			t.Errorf("%s: %d executions, want %d; %s", name, executed, calls, failures(r))
		}
	}
	e.apply(httpRoute("retried", "", `{retry: {codes: [503], attempts: 2}, backendRefs: [{name: server, port: 8080}]}`))
	e.status(cluster.HTTPRoutes, "retried", accepted, resolvedRefs)
	e.tried(client, post, 3)
}

// tried waits until one call that fails is so many tries.
func (e *env) tried(from cluster.Pod, c api.Call, want int) {
	e.Helper()
	e.eventually(statusTime, func() (string, error) {
		before := e.executions()
		e.call(from, c)
		if n := e.executions() - before; n != want {
			return fmt.Sprintf("a call that fails is tried %d times, want %d", n, want), nil
		}
		return "", nil
	})
}

// Scenario 11: every backend is UNAVAILABLE and retries are opted in to. The budget keeps them from making it worse,
// and when the backends are repaired, all is well within 5 s.
func TestStorm(t *testing.T) {
	alone(t)
	const rate, calls = 500, 3000
	e := newEnv(t, true)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	// Some calls are in flight at any time: a budget of 20 % of nothing is its minimum. A back-off counts as part of a
	// retry: the longer a call takes beside it, the nearer tries come to the limit.
	slow := grpcCall
	slow.Delay = 200 * time.Millisecond
	e.reachable(client, slow)
	e.apply(fmt.Sprintf("{apiVersion: v1, kind: Service, metadata: {name: server, annotations: {%s: unavailable}}}", config.AnnotationRetryOn))
	failing := grpcCall
	failing.Code = unavailable
	e.tried(client, failing, 3)

	e.failAll("server", unavailable)
	tries := func(what string, c api.Call, calls, limit int) {
		before := e.executions()
		r := e.startLoad(client, api.Load{Call: c, Rate: rate, Calls: calls}).wait(time.Minute)
		n := e.executions() - before
		figure(t, fmt.Sprintf("tries of %d calls, all UNAVAILABLE %s", calls, what), fmt.Sprintf("%d, %.3f of what was offered", n, float64(n)/float64(calls)), fmt.Sprintf("≤ %d", limit))
		if r.Failed != calls || n > limit || n <= calls {
			t.Errorf("%s: %d tries, want more than %d and at most %d; %s", what, n, calls, limit, failures(r))
		}
	}
	const minimum = 3
	tries("after 200 ms", slow, calls, calls*12/10+minimum)
	// Where servers fail at once, next to nothing is in flight, and three retries at a time are allowed. Each takes its
	// back-off, 12.5 ms in the mean.
	const quick = 1000
	tries("at once", grpcCall, quick, quick*12/10+int(minimum*quick/rate*time.Second/(12500*time.Microsecond)))

	running := e.startLoad(client, api.Load{Call: slow, Rate: rate})
	e.calls(running, rate, 20*time.Second)
	e.failAll("server", 0)
	repaired := time.Now()
	e.calls(running, 6*rate, 30*time.Second)
	r := running.stop()
	last := r.LastFailed.Sub(repaired)
	figure(t, "last failed call after the repair", max(0, last).Round(time.Millisecond).String(), "≤ 5 s")
	if last > 5*time.Second || len(r.Pods) != 3 {
		t.Errorf("a call begun %s after the repair failed; %d pods answer, want 3", last, len(r.Pods))
	}
}

// failAll makes the pods of an application answer every gRPC call with a code; 0 repairs them.
func (e *env) failAll(app string, code int) {
	e.Helper()
	for _, p := range e.podsOf(app) {
		e.must(e.JSON(e.ctx, "POST", p, api.ControlPort, fmt.Sprintf("/fail?code=%d", code), nil, nil))
	}
}

// calls waits until a load has made n more calls.
func (e *env) calls(l *load, n int, timeout time.Duration) {
	e.Helper()
	before := l.result().Calls
	e.eventually(timeout, func() (string, error) {
		if got := l.result().Calls - before; got < n {
			return fmt.Sprintf("%d of %d calls made", got, n), nil
		}
		return "", nil
	})
}
