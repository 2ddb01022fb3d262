package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Scenario 2: 10 servers, 500 rps on one gRPC connection, three rolling restarts, no failed call.
func testRollout(t *testing.T) {
	e := newEnv(t, true)
	e.server("server", 10)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 500})
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

// crashable is a server that stays dead after a crash instead of coming back, and whose calls take so
// long that some are always in flight.
func crashable() corev1.PodSpec {
	spec := serverPod("server", "--http=:8080", "--grpc=:50051", "--crash-marker=/state/crashed")
	spec.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
	return spec
}

// Scenario 3: a server dies as by SIGKILL. Only the calls in flight on it may fail, and after 2 s it
// gets none.
func testCrash(t *testing.T) {
	e := newEnv(t, true)
	e.deploy("server", 3, crashable())
	e.service("server", "server", port("http", httpPort), port("grpc", grpcPort))
	client := e.client()
	e.ready("server")
	slow := grpcCall
	slow.Delay = 50 * time.Millisecond
	e.reachable(client, slow)
	running := e.startLoad(client, api.Load{Call: slow, Rate: 100})
	e.eventually(20*time.Second, func() (string, error) {
		if r := running.result(); len(r.Pods) < 3 || r.Calls < 200 {
			return fmt.Sprintf("%d calls to %d pods", r.Calls, len(r.Pods)), nil
		}
		return "", nil
	})
	victim := e.podsOf("server")[0]
	inFlight := e.crash(victim)
	crashed := time.Now()
	// 500 more calls are 5 s, more than twice the time in which the mesh has to notice.
	before := running.result().Calls
	e.eventually(20*time.Second, func() (string, error) {
		if n := running.result().Calls - before; n < 500 {
			return fmt.Sprintf("%d of 500 calls after the crash", n), nil
		}
		return "", nil
	})
	r := running.stop()
	// One call more than the server counted can be on its way there.
	figure(t, "failures of a crash", fmt.Sprintf("%d of %d calls", r.Failed, r.Calls), fmt.Sprintf("≤ %d in flight + 1 on the way", inFlight))
	if r.Failed > inFlight+1 {
		t.Errorf("%d calls were in flight on the pod when it died: %s", inFlight, failures(r))
	}
	last := r.Last[victim.Name].Sub(crashed) // negative: answered before the crash was known
	for _, f := range r.Failures {
		last = max(last, f.At.Sub(crashed))
	}
	figure(t, "last call to the dead pod after the crash", last.Round(10*time.Millisecond).String(), "≤ 2 s")
	if last > 2*time.Second {
		t.Errorf("a call made %s after the crash still went to the dead pod", last)
	}
}

// crash kills the application of a pod and gives the calls that were in flight on it.
func (e *env) crash(pod cluster.Pod) int {
	e.Helper()
	e.must(e.JSON(e.ctx, "POST", pod, api.ControlPort, "/crash", nil, nil))
	var event struct {
		Event    string
		InFlight int
	}
	e.eventually(20*time.Second, func() (string, error) {
		// The container restarts after the crash, so its log is that of the previous one.
		for _, previous := range []bool{true, false} {
			out, err := e.CoreV1().Pods(e.ns).GetLogs(pod.Name, &corev1.PodLogOptions{Container: "app", Previous: previous}).DoRaw(e.ctx)
			if err != nil {
				continue
			}
			for line := range strings.Lines(string(out)) {
				if json.Unmarshal([]byte(line), &event) == nil && event.Event == "crash" {
					return "", nil
				}
			}
		}
		return "no crash in the log of " + pod.Name, nil
	})
	return event.InFlight
}
