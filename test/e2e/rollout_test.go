package e2e

import (
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// atOnce bounds the calls in flight where pods start under load: on two cores these take all CPU for seconds. What is
// offered stays what it is.
const atOnce = 200

// Scenario 2: 10 servers, 500 rps on one gRPC connection, three rolling restarts, no failed call.
func TestRollout(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.server("server", 10)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 500, Concurrency: atOnce})
	start := time.Now()
	for range 3 {
		e.must(e.Restart(e.ctx, e.ns, "server"))
		e.ready("server")
	}
	// The last old pods end after the Deployment says that it is done; their end belongs to the test.
	e.noTerminating("app=server")
	took := time.Since(start)
	r := running.stop()
	e.noFailures("500 rps through three rolling restarts of 10 pods", r, int(0.9*500*took.Seconds()))
	if n := len(r.Pods); n != 40 {
		t.Errorf("%d pods were called, want 40: 10, and 10 for each restart", n)
	}
}

// noTerminating waits until no pod of a selector is on its way out.
func (e *env) noTerminating(selector string) {
	e.Helper()
	e.eventually(90*time.Second, func() (string, error) {
		list, err := e.CoreV1().Pods(e.ns).List(e.ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return "", err
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp != nil {
				return p.Name + " is terminating", nil
			}
		}
		return "", nil
	})
}
