package e2e

import (
	"fmt"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// timeoutRoute has a timeout for each of two methods, and none for the others.
var timeoutRoute = fmt.Sprintf(`
apiVersion: gateway.networking.k8s.io/v1
kind: GRPCRoute
metadata:
  name: timeouts
  annotations:
    %[1]s.a: 100ms
    %[1]s.b: 5s
    %[2]s: unavailable
    %[3]s: "2"
spec:
  parentRefs: [%[4]s]
  rules:
    - name: a
      matches: [{method: {service: mizzen.test.echo.v1.Echo, method: Call}}]
      backendRefs: [{name: server, port: %[5]d}]
    - name: b
      matches: [{method: {service: mizzen.test.echo.v1.Echo, method: Other}}]
      backendRefs: [{name: server, port: %[5]d}]
    - name: rest
      backendRefs: [{name: server, port: %[5]d}]
`, config.AnnotationTimeout, config.AnnotationRetryOn, config.AnnotationRetryAttempts, parentRef(grpcPort), grpcPort)

// Scenario 12: method A has 100 ms, method B 5 s, the client 1 s, each call three tries. One deadline holds across
// all tries, the smaller one, and a stream without a timeout lives on though nothing is said on it.
func TestTimeouts(t *testing.T) {
	alone(t)
	e := newRouteEnv(t)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	e.apply(timeoutRoute)
	e.status(cluster.GRPCRoutes, "timeouts", accepted, resolvedRefs)

	a := api.Call{Kind: api.GRPC, Target: grpcCall.Target, Delay: 2 * time.Second}
	b := api.Call{Kind: api.GRPCOther, Target: grpcCall.Target, Timeout: 20 * time.Second, Delay: 10 * time.Second}
	e.answered(client, a, statusTime, func(a api.Answer) bool { return a.Elapsed < time.Second })
	// Longer than any wait that the proxy has of its own.
	pause := config.Default().OnDemand.Timeout.Duration + 2*time.Second
	idle := e.startLoad(client, api.Load{Calls: 1, Call: api.Call{Kind: api.GRPCChat, Target: grpcCall.Target, Pause: pause, Timeout: time.Minute}})
	whole := e.startLoad(client, api.Load{Calls: 1, Call: b})

	late := e.lateness(client)
	e.failsAfter("A, a slow server", e.startLoad(client, api.Load{Call: a, Calls: 30, Concurrency: 2}), 100*time.Millisecond, 20*time.Millisecond, late)
	a.Delay, a.Code = 60*time.Millisecond, unavailable
	e.failsAfter("A, tries that fail after 60 ms", e.startLoad(client, api.Load{Call: a, Calls: 30, Concurrency: 2}), 100*time.Millisecond, 20*time.Millisecond, late)

	// The third try begins well before the deadline, and would end after it.
	const calls = 6
	b.Delay, b.Code, b.Timeout = 350*time.Millisecond, unavailable, time.Second
	before := e.executions()
	e.failsAfter("B, tries that fail after 350 ms, deadline 1 s", e.startLoad(client, api.Load{Call: b, Calls: calls, Concurrency: 3}), time.Second, 50*time.Millisecond, late)
	tries := e.executions() - before
	figure(t, fmt.Sprintf("tries of %d calls to B", calls), fmt.Sprint(tries), fmt.Sprint(3*calls))
	if tries != 3*calls {
		t.Errorf("%d calls to B were %d tries, want three each", calls, tries)
	}

	e.failsAfter("B, a slow server, deadline 20 s", whole, 5*time.Second, 100*time.Millisecond, late)
	e.noFailures(fmt.Sprintf("a stream that was idle for %s", pause), idle.wait(30*time.Second), 1)
}

// lateness is by how much this machine is late at this moment: of calls that take the server 100 ms, one in ten takes so
// much longer.
func (e *env) lateness(client cluster.Pod) time.Duration {
	e.Helper()
	const took = 100 * time.Millisecond
	c := api.Call{Kind: api.GRPCOther, Target: grpcCall.Target, Delay: took}
	r := e.startLoad(client, api.Load{Call: c, Calls: 30, Concurrency: 2}).wait(time.Minute)
	figure(e.T, "what this machine adds to 100 ms, p90", (r.P90 - took).Round(time.Millisecond/10).String(), "")
	return r.P90 - took
}

// failsAfter asserts that all calls of a load failed after a time: none earlier than the tolerance allows, and 9 of 10
// no later, but for what the machine adds.
func (e *env) failsAfter(what string, l *load, want, tolerance, late time.Duration) {
	e.Helper()
	r := l.wait(time.Minute)
	first := r.Max
	for _, f := range r.Failures {
		first = min(first, f.Elapsed)
	}
	round := func(d time.Duration) time.Duration { return d.Round(time.Millisecond / 10) }
	figure(e.T, what, fmt.Sprintf("%d of %d calls failed after %s to %s, p90 %s", r.Failed, r.Calls, round(first), round(r.Max), round(r.P90)), fmt.Sprintf("%s ± %s", want, tolerance))
	if r.Failed != r.Calls || first < want-tolerance || r.P90 > want+tolerance+late {
		e.Errorf("%s: want all to fail after %s ± %s; %s", what, want, tolerance, failures(r))
	}
}
