package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/figures"
)

// Scenario 1: one gRPC connection, 10,000 calls, 3 then 10 pods, ±2 points; a new pod gets its first
// call at most 2 s after it is Ready.
func TestBalance(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.server("server", 3)
	e.ready("server")
	client := e.client()
	share := func(pods int) {
		r := e.startLoad(client, api.Load{Call: grpcCall, Calls: 10_000, Concurrency: 4}).wait(2 * time.Minute)
		e.noFailures(fmt.Sprintf("10,000 calls on one connection, %d pods", pods), r, 10_000)
		figure(t, fmt.Sprintf("distance from a fair share, %d pods", pods), fmt.Sprintf("%.2f points", figures.Spread(r.Pods, pods)), "≤ 2")
		if err := figures.Even(r.Pods, pods, 2); err != nil {
			t.Errorf("%d pods: %v", pods, err)
		}
	}
	e.reachable(client, grpcCall)
	share(3)

	old := map[string]bool{}
	for _, p := range e.podsOf("server") {
		old[p.Name] = true
	}
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 100})
	readyAt := e.watchReady("app=server")
	e.must(e.Scale(e.ctx, e.ns, "server", 10))
	e.ready("server")
	e.eventually(10*time.Second, func() (string, error) {
		if n := len(running.result().Pods); n < 10 {
			return fmt.Sprintf("%d of 10 pods called", n), nil
		}
		return "", nil
	})
	r := running.stop()
	e.noFailures("calls while 7 pods joined", r, 100)
	e.firstCalls(r, readyAt(), old)
	share(10)
}

// firstCalls asserts when pods that joined during a load were first called.
func (e *env) firstCalls(r api.Result, readyAt map[string]time.Time, old map[string]bool) {
	e.Helper()
	var worst time.Duration
	joined := 0
	for pod, ready := range readyAt {
		if old[pod] {
			continue
		}
		joined++
		first, called := r.First[pod]
		if !called {
			e.Errorf("new pod %s was never called", pod)
			continue
		}
		worst = max(worst, first.Sub(ready))
	}
	figure(e.T, fmt.Sprintf("first call of %d new pods after Ready", joined), worst.Round(10*time.Millisecond).String(), "≤ 2 s")
	if worst > 2*time.Second {
		e.Errorf("a new pod waited %s for its first call", worst)
	}
	if joined != 7 {
		e.Errorf("%d new pods seen to get Ready, want 7", joined)
	}
}

// watchReady notes when each pod of a selector is seen to get Ready. The condition's own time is
// no use: it counts in whole seconds. The function that it returns ends the watch.
func (e *env) watchReady(selector string) func() map[string]time.Time {
	e.Helper()
	w, err := e.CoreV1().Pods(e.ns).Watch(e.ctx, metav1.ListOptions{LabelSelector: selector})
	e.must(err)
	seen, done := map[string]time.Time{}, make(chan struct{})
	go func() {
		defer close(done)
		for ev := range w.ResultChan() {
			p, ok := ev.Object.(*corev1.Pod)
			if !ok {
				continue
			}
			if _, known := seen[p.Name]; !known && cluster.Ready(p) {
				seen[p.Name] = time.Now()
			}
		}
	}()
	return func() map[string]time.Time {
		w.Stop()
		<-done
		return seen
	}
}
