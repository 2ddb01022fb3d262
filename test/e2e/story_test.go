package e2e

import (
	"fmt"
	"slices"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/figures"
	"github.com/mizzen-mesh/mizzen/test/internal/story"
)

// hasSidecar asserts that a pod carries the sidecar as a native one: a restartable init container
// before the capture container.
func (e *env) hasSidecar(pod cluster.Pod) {
	e.Helper()
	if withoutMesh {
		return
	}
	p, err := e.CoreV1().Pods(pod.Namespace).Get(e.ctx, pod.Name, metav1.GetOptions{})
	e.must(err)
	names := cluster.Containers(p)
	if len(p.Spec.InitContainers) < 2 || !slices.Equal(names[:2], []string{config.ProxyContainer, config.CaptureContainer}) {
		e.Fatalf("pod %s: containers %v, want %s and %s first", pod.Name, names, config.ProxyContainer, config.CaptureContainer)
	}
	if policy := p.Spec.InitContainers[0].RestartPolicy; policy == nil || *policy != "Always" {
		e.Fatalf("pod %s: %s is no native sidecar: restartPolicy is not Always", pod.Name, config.ProxyContainer)
	}
}

// The story: the example's own YAML, before and after, 3,000 calls each.
func TestStory(t *testing.T) {
	alone(t)
	const calls, tolerance = 3000, 5
	e := newEnv(t, false)
	s := &story.Story{Cluster: mesh, Namespace: e.ns}
	quiet := func(string) {}
	measure := func(endpoint string) map[string]int {
		counts, err := s.Measure(e.ctx, endpoint, calls, quiet)
		e.must(err)
		return counts
	}
	e.must(s.Apply(e.ctx))
	e.must(s.Settled(e.ctx, quiet))
	e.must(s.Reachable(e.ctx))
	before := measure(story.GRPC)
	figure(t, "gRPC without the mesh", figures.Line(before), "100 % on one pod")
	e.must(figures.AllOnOne(before))

	e.must(s.Label(e.ctx, true))
	e.must(s.RestartAll(e.ctx))
	e.must(s.Settled(e.ctx, quiet))
	pod, err := s.ClientPod(e.ctx)
	e.must(err)
	e.hasSidecar(cluster.Pod{Namespace: e.ns, Name: pod.Name})
	for name, endpoint := range map[string]string{"HTTP": story.HTTP, "gRPC": story.GRPC} {
		counts := measure(endpoint)
		figure(t, name+" with the mesh", figures.Line(counts), fmt.Sprintf("33.3 ± %d %% on each of 3", tolerance))
		if err := figures.Even(counts, story.Replicas, tolerance); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}
