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

// work is how long the server takes for a call, so that some are always in flight.
const work = 50 * time.Millisecond

// crashable is a server that stays dead after a crash instead of coming back.
func crashable() corev1.PodSpec {
	spec := serverPod("server", "--http=:8080", "--grpc=:50051", "--crash-marker=/state/crashed")
	spec.Volumes = []corev1.Volume{{Name: "state", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "state", MountPath: "/state"}}
	return spec
}

// Scenario 3: a server dies as by SIGKILL. Only the calls in flight on it may fail, and after 2 s it
// gets none.
func TestCrash(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.deploy("server", 3, crashable())
	e.service("server", "server", port("http", httpPort), port("grpc", grpcPort))
	client := e.client()
	e.ready("server")
	slow := grpcCall
	slow.Delay = work
	e.reachable(client, slow)
	running := e.startLoad(client, api.Load{Call: slow, Rate: 100})
	e.eventually(20*time.Second, func() (string, error) {
		if r := running.result(); len(r.Pods) < 3 || r.Calls < 200 {
			return fmt.Sprintf("%d calls to %d pods", r.Calls, len(r.Pods)), nil
		}
		return "", nil
	})
	victim := e.podsOf("server")[0]
	died := e.crash(victim)
	// 500 more calls are 5 s, more than twice the time in which the mesh has to notice.
	before := running.result().Calls
	e.eventually(20*time.Second, func() (string, error) {
		if n := running.result().Calls - before; n < 500 {
			return fmt.Sprintf("%d of 500 calls after the crash", n), nil
		}
		return "", nil
	})
	e.crashFailures(running.stop(), died, victim)
}

// minOnTheWay is the least time that the end of a connection is given to reach the caller's side.
const minOnTheWay = 10 * time.Millisecond

// crashFailures asserts that only calls in flight on the dead pod failed: calls begun before it died, or while
// the end of its connections was on its way to the caller. How long that takes on this machine at this moment
// shows in the same run: it is what the slowest calls take beyond the work of the server.
func (e *env) crashFailures(r api.Result, died crashEvent, victim cluster.Pod) {
	e.Helper()
	onTheWay := max(minOnTheWay, r.P99-work)
	begunAfter, last := 0, r.Last[victim.Name].Sub(died.At)
	var offsets []string
	for _, f := range r.Failures {
		offset := f.At.Sub(died.At)
		offsets = append(offsets, offset.Round(time.Millisecond).String())
		last = max(last, offset)
		if offset > onTheWay {
			begunAfter++
		}
	}
	figure(e.T, "failures of a crash", fmt.Sprintf("%d of %d calls (%d were in flight in the application)", r.Failed, r.Calls, died.InFlight), "any in flight")
	figure(e.T, "of them begun after the crash", fmt.Sprintf("%d, more than %s after it", begunAfter, onTheWay.Round(time.Millisecond)), "0")
	if begunAfter > 0 {
		e.Errorf("calls begun after the crash failed; begin of each, from the crash: %v\n%s", offsets, failures(r))
	}
	figure(e.T, "last call to the dead pod after the crash", last.Round(10*time.Millisecond).String(), "≤ 2 s")
	if last > 2*time.Second {
		e.Errorf("a call made %s after the crash still went to the dead pod", last)
	}
}

// crashEvent is what the application logs at its death.
type crashEvent struct {
	Event    string
	InFlight int
	At       time.Time
}

// crash kills the application of a pod and tells when that was.
func (e *env) crash(pod cluster.Pod) crashEvent {
	e.Helper()
	e.must(e.JSON(e.ctx, "POST", pod, api.ControlPort, "/crash", nil, nil))
	var event crashEvent
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
	return event
}
