package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Scenario 7: the control plane is away. Running traffic goes on, unlabelled pods are created, labelled ones
// refused with a clear message; when it returns, nothing fails and labelled pods are let in again.
func TestOutage(t *testing.T) {
	alone(t)
	plain, e := newEnv(t, false), newEnv(t, true)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 100})
	e.must(e.polled(10*time.Second, e.executed(100)))

	var waiting []string
	for i := range waitingPods {
		name := fmt.Sprintf("waiting-%d", i)
		waiting = append(waiting, name)
		if problem := e.createGated(name); problem != "" && e.meshed {
			t.Fatal(problem)
		}
	}
	replicas := e.scaleControlPlane(nil)
	// Whatever happens below, later tests need the control plane.
	t.Cleanup(func() { restoreControlPlane(t, replicas) })
	e.refusedClearly(e.pod("refused", serverPod()))
	plain.create(plain.pod("admitted", serverPod()))
	e.must(plain.WaitPodReady(e.ctx, cluster.Pod{Namespace: plain.ns, Name: "admitted"}, readyTimeout))
	for _, name := range waiting {
		e.ungate(name)
	}
	if e.meshed {
		e.saysWhyItWaits(waiting[0])
	}
	e.endsWhileItWaits(waiting[0])
	if e.meshed {
		e.atRestWhileTheyWait(waiting[1:])
	}
	away := running.result().Calls
	e.eventually(60*time.Second, func() (string, error) {
		if n := running.result().Calls - away; n < 1500 {
			return fmt.Sprintf("%d of 1500 calls without a control plane", n), nil
		}
		return "", nil
	})
	// A call to a Service never used before must not hang for ever either; the mesh of these tests is small
	// enough to be known whole.
	if a := e.call(client, httpCall); !a.OK {
		t.Errorf("first HTTP call during the outage: %s", a.Error)
	}

	e.scaleControlPlane(replicas)
	back := time.Now()
	for _, name := range waiting[1:] {
		e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: name}, readyTimeout))
	}
	took := time.Since(back)
	most := 3 * time.Second
	if waitingPods > fewWaitingPods {
		most = 10 * time.Second
	}
	figure(t, fmt.Sprintf("%d pods that waited are ready, after the control plane is", waitingPods-1), round(took).String(), "≤ "+most.String())
	if took > most {
		t.Errorf("pods that waited for the control plane were ready %s after it was", took)
	}
	e.noRestarts()
	e.create(e.pod("admitted", serverPod()))
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "admitted"}, readyTimeout))
	e.hasSidecar(cluster.Pod{Namespace: e.ns, Name: "admitted"})
	// The mesh follows changes again.
	before := len(running.result().Pods)
	e.must(e.Scale(e.ctx, e.ns, "server", 4))
	e.eventually(readyTimeout, func() (string, error) {
		if n := len(running.result().Pods); n <= before {
			return fmt.Sprintf("%d pods called since the return of the control plane", n), nil
		}
		return "", nil
	})
	running.noFailures("calls before, during and after the outage")
}

// scaleControlPlane sets the replicas of every Deployment of the control plane: to none, or back to what
// they were. It waits, and gives what they were before.
func (e *env) scaleControlPlane(to map[string]int) map[string]int {
	e.Helper()
	list, err := e.AppsV1().Deployments(cluster.SystemNamespace).List(e.ctx, metav1.ListOptions{})
	e.must(err)
	if len(list.Items) == 0 {
		e.Fatal("no Deployment in " + cluster.SystemNamespace)
	}
	was := map[string]int{}
	for _, d := range list.Items {
		was[d.Name] = int(*d.Spec.Replicas)
		e.must(e.Scale(e.ctx, cluster.SystemNamespace, d.Name, to[d.Name]))
	}
	for _, d := range list.Items {
		e.must(e.WaitDeployment(e.ctx, cluster.SystemNamespace, d.Name, readyTimeout))
	}
	if to == nil {
		e.must(e.WaitNoPods(e.ctx, cluster.SystemNamespace, "", readyTimeout))
	}
	return was
}

// restoreControlPlane brings the control plane back after a test that may have failed half way.
func restoreControlPlane(t *testing.T, replicas map[string]int) {
	ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
	defer cancel()
	for name, n := range replicas {
		if err := mesh.Scale(ctx, cluster.SystemNamespace, name, n); err != nil {
			t.Errorf("restore %s: %v", name, err)
		} else if err := mesh.WaitDeployment(ctx, cluster.SystemNamespace, name, readyTimeout); err != nil {
			t.Errorf("restore: %v", err)
		}
	}
}
