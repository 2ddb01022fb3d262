package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The sidecar at rest: a pod is Ready at most 2 s later than without it, and the agent holds at most 21 MB, two thirds
// of which are pages of its program (cmd/mizzen-proxy has a bound for the rest).
func TestFootprint(t *testing.T) {
	alone(t)
	const maxAgent = 21 << 20
	meshed := newEnv(t, true)
	readyLater(newEnv(t, false), meshed, "Ready later than without injection", 2*time.Second)
	idle := meshed.client()
	rss := meshed.metric(idle, "process_resident_memory_bytes")
	figure(t, "agent's resident memory", fmt.Sprintf("%.1f MB", rss/(1<<20)), "≤ 21 MB")
	if rss > maxAgent || rss <= 0 {
		t.Errorf("the agent holds %.0f bytes, want at most %d", rss, maxAgent)
	}
}

// readyLater asserts how much later a pod is Ready with the sidecar than without it: the median of 10 each, in turns.
func readyLater(plain, meshed *env, what string, most time.Duration) {
	meshed.Helper()
	const rounds = 10
	var without, with []time.Duration
	for i := range rounds {
		name := fmt.Sprintf("pod-%d", i)
		without = append(without, plain.timeToReady(name))
		with = append(with, meshed.timeToReady(name))
	}
	later := median(with) - median(without)
	figure(meshed.T, what, fmt.Sprintf("%s (median %s against %s)", round(later), round(median(with)), round(median(without))), "≤ "+most.String())
	if later > most {
		meshed.Errorf("pods are ready %s later with the sidecar:\nwith    %v\nwithout %v", later, with, without)
	}
}

func round(d time.Duration) time.Duration { return d.Round(10 * time.Millisecond) }

func median(d []time.Duration) time.Duration {
	d = slices.Sorted(slices.Values(d))
	return (d[len(d)/2] + d[(len(d)-1)/2]) / 2
}

// timeToReady creates a pod and gives the time until it was seen to be Ready, then deletes it.
func (e *env) timeToReady(name string) time.Duration {
	e.Helper()
	w, err := e.CoreV1().Pods(e.ns).Watch(e.ctx, metav1.ListOptions{LabelSelector: "app=" + name})
	e.must(err)
	defer w.Stop()
	start := time.Now()
	e.create(e.pod(name, serverPod()))
	deadline := time.After(readyTimeout)
	for {
		select {
		case ev := <-w.ResultChan():
			if p, ok := ev.Object.(*corev1.Pod); ok && cluster.Ready(p) {
				took := time.Since(start)
				e.must(e.CoreV1().Pods(e.ns).Delete(e.ctx, name, metav1.DeleteOptions{GracePeriodSeconds: ptr(int64(1))}))
				return took
			}
		case <-deadline:
			e.Fatalf("%s pod %s was not ready after %s", e.kind(), name, readyTimeout)
		}
	}
}

// metric reads one figure without labels from the agent of a pod.
func (e *env) metric(pod cluster.Pod, name string) float64 {
	e.Helper()
	status, body, err := e.Get(e.ctx, pod, config.AgentPort, "metrics")
	e.must(err)
	if status != 200 {
		e.Fatalf("%s :%d/metrics: status %d: %s", pod.Name, config.AgentPort, status, body)
	}
	for line := range strings.Lines(string(body)) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			f, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			e.must(err)
			return f
		}
	}
	e.Fatalf("%s has no metric %s", pod.Name, name)
	return 0
}
