package e2e

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// upgradeValues are what the upgrades of TestUpgrade change, one after the other and back at last: each
// changes the mesh configuration, so each rolls the control plane.
var upgradeValues = [][]string{
	{"mesh.sidecar.logLevel=info"},
	{"mesh.sidecar.logLevel=error", "controller.replicas=3"},
	nil,
}

// Scenario 16, first half: helm upgrade again and again while 5 pods a second are created. No pod is refused
// and none goes without a sidecar; running traffic does not notice.
func TestUpgrade(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.server("server", 2)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 50})
	created := e.createPods(5)
	for _, values := range upgradeValues {
		start := time.Now()
		e.install(values...)
		// Helm returns early when nothing changed in the Deployment; a restart makes each round a real one.
		for _, name := range e.controlPlane() {
			e.must(e.Restart(e.ctx, cluster.SystemNamespace, name))
			e.must(e.WaitDeployment(e.ctx, cluster.SystemNamespace, name, readyTimeout))
		}
		timings.add(fmt.Sprintf("  one upgrade and one restart of the control plane %v", values), time.Since(start))
	}
	created("pods created during upgrades", 50)
	running.noFailures("calls during upgrades")
	e.create(e.pod("after", serverPod()))
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "after"}, readyTimeout))
}

func (e *env) controlPlane() []string {
	e.Helper()
	list, err := e.AppsV1().Deployments(cluster.SystemNamespace).List(e.ctx, metav1.ListOptions{})
	e.must(err)
	names := make([]string, len(list.Items))
	for i, d := range list.Items {
		names[i] = d.Name
	}
	return names
}

// createPods creates pods at a rate until the function that it returns is called, which reports what was
// wrong with them. The pods carry a scheduling gate: they are admitted as any pod and never
// run, so that the test needs no room for them.
func (e *env) createPods(rate int) func(what string, atLeast int) {
	ctx, cancel := context.WithCancel(e.ctx)
	var wg sync.WaitGroup
	var mu sync.Mutex
	var problems []string
	n := 0
	pace := time.NewTicker(time.Second / time.Duration(rate))
	wg.Go(func() {
		defer pace.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-pace.C:
			}
			n++
			name := fmt.Sprintf("gated-%d", n)
			wg.Go(func() {
				if problem := e.createGated(name); problem != "" {
					mu.Lock()
					defer mu.Unlock()
					problems = append(problems, fmt.Sprintf("%s %s: %s", time.Now().Format(time.TimeOnly), name, problem))
				}
			})
		}
	})
	return func(what string, atLeast int) {
		e.Helper()
		cancel()
		wg.Wait()
		figure(e.T, what, fmt.Sprintf("%d, %d with a problem", n, len(problems)), "0 problems")
		for _, p := range problems {
			e.Error(p)
		}
		if n < atLeast {
			e.Errorf("%d pods were created, want at least %d for the test to mean something", n, atLeast)
		}
	}
}

func (e *env) createGated(name string) (problem string) {
	p := e.pod(name, serverPod())
	p.Spec.SchedulingGates = []corev1.PodSchedulingGate{{Name: "e2e.test/gate"}}
	created, err := e.CoreV1().Pods(e.ns).Create(e.ctx, p, metav1.CreateOptions{})
	if err != nil {
		return err.Error()
	}
	for _, c := range created.Spec.InitContainers {
		if c.Name == config.ProxyContainer {
			return ""
		}
	}
	return fmt.Sprintf("no sidecar: %v", cluster.Containers(created))
}
