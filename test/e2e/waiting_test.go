package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
)

// ungate lets a pod start that createGated has made.
func (e *env) ungate(name string) {
	e.Helper()
	_, err := e.CoreV1().Pods(e.ns).Patch(e.ctx, name, types.MergePatchType, []byte(`{"spec":{"schedulingGates":null}}`), metav1.PatchOptions{})
	e.must(err)
}

// saysWhyItWaits: a pod whose sidecar waits for the control plane says so in an event and in the sidecar's log.
func (e *env) saysWhyItWaits(pod string) {
	e.Helper()
	reason := "waiting for a certificate from the control plane"
	e.eventually(readyTimeout, func() (string, error) {
		events, err := e.CoreV1().Events(e.ns).List(e.ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod + ",reason=Unhealthy"})
		if err != nil {
			return "", err
		}
		said := []string{}
		for _, ev := range events.Items {
			if strings.Contains(ev.Message, reason) && strings.Contains(ev.InvolvedObject.FieldPath, "{"+config.ProxyContainer+"}") {
				return "", nil
			}
			said = append(said, ev.Message)
		}
		return fmt.Sprintf("%s: no event of the sidecar with %q, but %q", pod, reason, said), nil
	})
	for _, container := range []string{config.ProxyContainer, config.CaptureContainer} {
		e.eventually(readyTimeout, func() (string, error) {
			if log := logTail(e.ctx, e.ns, pod, container); !strings.Contains(log, reason) {
				return fmt.Sprintf("log of %s/%s without %q: %s", pod, container, reason, log), nil
			}
			return "", nil
		})
	}
}

// endsWhileItWaits: a pod whose sidecar waits is deleted at once, far within its grace period.
func (e *env) endsWhileItWaits(pod string) {
	e.Helper()
	start := time.Now()
	e.must(e.CoreV1().Pods(e.ns).Delete(e.ctx, pod, metav1.DeleteOptions{}))
	e.eventually(readyTimeout, func() (string, error) {
		_, err := e.CoreV1().Pods(e.ns).Get(e.ctx, pod, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return pod + " is there", err
	})
	took := time.Since(start)
	figure(e.T, "a pod whose sidecar waits is gone after its deletion", round(took).String(), "≤ 10 s")
	if took > 10*time.Second {
		e.Errorf("%s: gone %s after its deletion, with 30 s of grace", pod, took)
	}
}

const fewWaitingPods = 10

// waitingPods is how many pods start while the control plane is away, and waitingTime for how long they are looked at then.
// MIZZEN_WAITING=100,5m is for a figure of docs/performance.md.
var waitingPods, waitingTime = func() (int, time.Duration) {
	pods, d, given := strings.Cut(os.Getenv("MIZZEN_WAITING"), ",")
	if !given {
		return fewWaitingPods, 10 * time.Second
	}
	n, err := strconv.Atoi(pods)
	long, err2 := time.ParseDuration(d)
	if err != nil || err2 != nil || n < 2 {
		panic("MIZZEN_WAITING=" + os.Getenv("MIZZEN_WAITING") + ": want a number of pods, at least 2, and how long they wait: 100,5m")
	}
	return n, long
}()

// usage is the CPU time of a pod's sidecar until a moment, as the kubelet tells it.
type usage struct {
	at  time.Time
	cpu time.Duration
}

// sidecarUsage is that of pods of the namespace whose sidecar the kubelet knows.
func (e *env) sidecarUsage(names []string) (map[string]usage, error) {
	p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, names[0], metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	raw, err := e.CoreV1().RESTClient().Get().AbsPath("/api/v1/nodes/"+p.Spec.NodeName+"/proxy/stats/summary").
		Param("only_cpu_and_memory", "true").DoRaw(e.ctx)
	if err != nil {
		return nil, err
	}
	var summary struct {
		Pods []struct {
			PodRef     struct{ Name, Namespace string }
			Containers []struct {
				Name string
				CPU  struct {
					Time                 time.Time
					UsageCoreNanoSeconds int64
				}
			}
		}
	}
	if err := json.Unmarshal(raw, &summary); err != nil {
		return nil, err
	}
	out := map[string]usage{}
	for _, p := range summary.Pods {
		for _, c := range p.Containers {
			if p.PodRef.Namespace == e.ns && c.Name == config.ProxyContainer && c.CPU.UsageCoreNanoSeconds > 0 {
				out[p.PodRef.Name] = usage{c.CPU.Time, time.Duration(c.CPU.UsageCoreNanoSeconds)}
			}
		}
	}
	for _, name := range names {
		if _, ok := out[name]; !ok {
			return nil, nil
		}
	}
	return out, nil
}

// atRestWhileTheyWait: a sidecar that waits for the control plane takes 0.5 % of a core at most, Envoy included.
func (e *env) atRestWhileTheyWait(names []string) {
	e.Helper()
	const most = 0.005
	var first, last map[string]usage
	e.eventually(readyTimeout, func() (missing string, err error) {
		if first, err = e.sidecarUsage(names); first == nil && err == nil {
			missing = "the kubelet's figures of all sidecars"
		}
		return missing, err
	})
	e.eventually(waitingTime+readyTimeout, func() (missing string, err error) {
		if last, err = e.sidecarUsage(names); err != nil || last == nil {
			return "the kubelet's figures of all sidecars", err
		}
		for _, name := range names {
			if d := last[name].at.Sub(first[name].at); d < waitingTime {
				return fmt.Sprintf("figures of %s for %s, not %s", name, d, waitingTime), nil
			}
		}
		return "", nil
	})
	cores, untilThen := 0.0, time.Duration(0)
	for _, name := range names {
		cores += float64(last[name].cpu-first[name].cpu) / float64(last[name].at.Sub(first[name].at))
		untilThen += first[name].cpu
	}
	figure(e.T, fmt.Sprintf("CPU of %d sidecars that wait for the control plane", len(names)),
		fmt.Sprintf("%.4f cores (and %s each to start)", cores, (untilThen/time.Duration(len(names))).Round(time.Millisecond)), fmt.Sprintf("≤ %.3f", most*float64(len(names))))
	if cores > most*float64(len(names)) {
		e.Errorf("%d sidecars that wait take %.4f cores, want at most %.3f", len(names), cores, most*float64(len(names)))
	}
}
