package e2e

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Pods are created at 200 a second, as by a large rollout or a node that comes back: each is admitted, with its sidecar. They are dry
// runs: the API server asks the webhook about them, and does nothing more.
func TestAdmissions(t *testing.T) {
	alone(t)
	const rate, last = 200, 10 * time.Second
	e := newEnv(t, true)
	plain := newEnv(t, false)
	bare := plain.dryRuns(rate, last)
	took := e.dryRuns(rate, last)
	figure(t, fmt.Sprintf("%d pods, %d a second, admitted in", len(took), rate), quantiles(took), "each with a sidecar")
	figure(t, "the same without injection", quantiles(bare), "–")
}

// dryRuns creates pods at a rate, each when its time has come, and returns how long they took, sorted.
func (e *env) dryRuns(rate int, last time.Duration) []time.Duration {
	e.Helper()
	n := int(last.Seconds()) * rate
	took, problems := make([]time.Duration, n), make([]string, n)
	spec := serverPod()
	pace := time.NewTicker(time.Second / time.Duration(rate))
	defer pace.Stop()
	ctx, cancel := context.WithTimeout(e.ctx, last+time.Minute)
	defer cancel()
	var all sync.WaitGroup
	for i := range n {
		<-pace.C
		all.Go(func() {
			begun := time.Now()
			pod, err := e.CoreV1().Pods(e.ns).Create(ctx, e.pod(fmt.Sprintf("dry-%d", i), spec), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
			took[i] = time.Since(begun)
			switch {
			case err != nil:
				problems[i] = err.Error()
			case sidecar.Has(pod) != e.meshed:
				problems[i] = fmt.Sprintf("pod %s: a sidecar: %t, want %t", pod.Name, sidecar.Has(pod), e.meshed)
			}
		})
	}
	all.Wait()
	problems = slices.DeleteFunc(problems, func(p string) bool { return p == "" })
	if len(problems) > 0 {
		e.Errorf("%s: %d of %d, such as %s", e.kind(), len(problems), n, problems[0])
	}
	slices.Sort(took)
	return took
}
