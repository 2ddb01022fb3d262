package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Scenario 9: nothing is called while every server pod is replaced; then the first call succeeds.
func TestStaleness(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	calls := []api.Call{grpcCall, httpCall}
	e.reachable(client, calls...)
	e.must(e.Restart(e.ctx, e.ns, "server"))
	e.ready("server")
	e.noTerminating("app=server")
	for _, c := range calls {
		a := e.call(client, c)
		figure(t, "first "+string(c.Kind)+" call after every pod was replaced", fmt.Sprintf("ok=%t after %s", a.OK, a.Elapsed.Round(time.Millisecond)), "ok")
		if !a.OK {
			t.Errorf("%s: %s", c.Kind, a.Error)
		}
	}
}

// callOnce is a container that makes one call, without a second try, and ends.
func callOnce(name, target string) corev1.Container {
	return container(name, "call", "--target="+target)
}

// Scenario 5: 50 pods whose init container and whose first instruction call a mesh Service.
func TestStart(t *testing.T) {
	alone(t)
	const pods = 50
	e := newEnv(t, true)
	e.server("server", 2)
	e.ready("server")
	target := fmt.Sprintf("http://server:%d/", httpPort)
	for i := range pods {
		p := e.pod(fmt.Sprintf("starter-%d", i), corev1.PodSpec{
			RestartPolicy:  corev1.RestartPolicyNever,
			InitContainers: []corev1.Container{callOnce("init", target)},
			Containers:     []corev1.Container{callOnce("app", target)},
		})
		p.Labels = map[string]string{"app": "starter"}
		e.create(p)
	}
	var list []corev1.Pod
	e.eventually(5*time.Minute, func() (missing string, err error) {
		list, err = e.Pods(e.ctx, e.ns, "app=starter")
		for _, p := range list {
			if p.Status.Phase != corev1.PodSucceeded && p.Status.Phase != corev1.PodFailed {
				missing = p.Name + ": " + cluster.PodState(&p)
			}
		}
		return missing, err
	})
	succeeded := 0
	for _, p := range list {
		if p.Status.Phase == corev1.PodSucceeded {
			succeeded++
			continue
		}
		t.Errorf("%s: %s\n%s%s", p.Name, cluster.PodState(&p), logTail(e.ctx, e.ns, p.Name, "init"), logTail(e.ctx, e.ns, p.Name, "app"))
	}
	figure(t, "pods whose first attempts succeeded, init and app", fmt.Sprintf("%d of %d", succeeded, pods), "all")
	if succeeded != pods {
		t.Errorf("%d of %d pods succeeded", succeeded, pods)
	}
	e.hasSidecar(cluster.Pod{Namespace: e.ns, Name: "starter-0"})
}

// Scenario 4: an application goes on calling for 25 s after its termination began.
func TestShutdown(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	e.server("server", 2)
	e.ready("server")
	// The application takes nearly all of it; the drain delay is not in it.
	grace := int64(27)
	spec := corev1.PodSpec{
		TerminationGracePeriodSeconds: &grace,
		Containers:                    []corev1.Container{container("app", "outcaller", "--kind=grpc", fmt.Sprintf("--target=server:%d", grpcPort))},
	}
	e.deploy("outcaller", 1, spec)
	e.ready("outcaller")
	pod := e.podsOf("outcaller")[0]
	e.hasSidecar(pod)

	var report struct {
		Event       string
		Before, All api.Result
	}
	logDone := make(chan error, 1)
	go func() {
		logDone <- e.FollowLog(e.ctx, pod, "app", func(line string) {
			if strings.Contains(line, `"outcaller"`) {
				_ = json.Unmarshal([]byte(line), &report) // an unread report fails below
			}
		})
	}()
	// Some calls must come before the end, or the connection would be made during it.
	e.must(e.polled(time.Minute, e.executed(40)))
	e.must(e.Scale(e.ctx, e.ns, "outcaller", 0))
	select {
	case err := <-logDone:
		e.must(err)
	case <-time.After(90 * time.Second):
		t.Fatal("the log of the outcaller did not end")
	}
	after := report.All.Calls - report.Before.Calls
	e.noFailures("calls out, of which many after SIGTERM", report.All, 400)
	figure(t, "calls after SIGTERM", fmt.Sprint(after), "≥ 400 (25 s at 20 rps)")
	if after < 400 {
		t.Errorf("%d calls after SIGTERM, want 25 s of them", after)
	}
}
