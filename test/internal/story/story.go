// Package story has the steps of examples/grpc-balance in a namespace: measure, label, restart, measure again. The demo
// shows them, and the end-to-end tests check them.
package story

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The example.
const (
	// Client is the workload that calls.
	Client = "native-tools"
	// Server is the workload that is called.
	Server = "native-tools-2"
	// Replicas of the server.
	Replicas = 3
	// HTTP is the client's endpoint that calls over HTTP.
	HTTP = "http_client"
	// GRPC is the client's endpoint that calls over gRPC.
	GRPC = "grpc_client"

	clientPort     = 8080
	rolloutTimeout = 3 * time.Minute
	concurrency    = 8
)

// Story in a namespace.
type Story struct {
	*cluster.Cluster
	Namespace string
}

// Apply applies the example as it is.
func (s *Story) Apply(ctx context.Context) error {
	for _, name := range []string{Server, Client} {
		if err := s.ApplyFile(ctx, s.Namespace, "examples/grpc-balance/"+name+".yaml"); err != nil {
			return err
		}
	}
	return nil
}

// Label sets the injection label, or removes it.
func (s *Story) Label(ctx context.Context, on bool) error {
	value := "null"
	if on {
		value = `"enabled"`
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, config.LabelInjection, value)
	_, err := s.CoreV1().Namespaces().Patch(ctx, s.Namespace, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// RestartAll restarts the pods of both Deployments.
func (s *Story) RestartAll(ctx context.Context) error {
	for _, name := range []string{Server, Client} {
		if err := s.Restart(ctx, s.Namespace, name); err != nil {
			return err
		}
	}
	return nil
}

// Settled waits for both rollouts and for the old pods to be gone: one that is still terminating
// could end a connection in the middle of a measurement.
func (s *Story) Settled(ctx context.Context, say func(string)) error {
	for _, name := range []string{Server, Client} {
		say("waiting for " + name)
		if err := s.WaitDeployment(ctx, s.Namespace, name, rolloutTimeout); err != nil {
			return err
		}
	}
	say("old pods finish")
	return cluster.Poll(ctx, rolloutTimeout, func(ctx context.Context) (string, error) {
		list, err := s.CoreV1().Pods(s.Namespace).List(ctx, metav1.ListOptions{})
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

// ClientPod is the one pod of the client.
func (s *Story) ClientPod(ctx context.Context) (*corev1.Pod, error) {
	pods, err := s.Pods(ctx, s.Namespace, "app="+Client)
	if err != nil {
		return nil, err
	}
	if len(pods) != 1 {
		return nil, fmt.Errorf("%d pods of %s, want 1", len(pods), Client)
	}
	return &pods[0], nil
}

// Measure asks the client pod for calls to one endpoint, a few at a time, and counts by pod who
// served them. The first failure ends it.
func (s *Story) Measure(ctx context.Context, endpoint string, calls int, say func(string)) (map[string]int, error) {
	p, err := s.ClientPod(ctx)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mu sync.Mutex
	var wg sync.WaitGroup
	var begun atomic.Int64
	counts, done := map[string]int{}, 0
	for range concurrency {
		wg.Go(func() {
			for ctx.Err() == nil && begun.Add(1) <= int64(calls) {
				served, err := s.call(ctx, p.Name, endpoint)
				if err != nil {
					cancel(err)
					return
				}
				mu.Lock()
				counts[served]++
				done++
				say(fmt.Sprintf("%d of %d", done, calls))
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return counts, context.Cause(ctx)
}

func (s *Story) call(ctx context.Context, pod, endpoint string) (string, error) {
	status, body, err := s.Get(ctx, cluster.Pod{Namespace: s.Namespace, Name: pod}, clientPort, endpoint+"?name="+Server)
	if err != nil {
		return "", err
	}
	answer := string(bytes.TrimSpace(body))
	if status != http.StatusOK {
		return "", fmt.Errorf("/%s: status %d: %s", endpoint, status, answer)
	}
	return answer, nil
}

// Reachable waits until the Service answers, which without a mesh is a moment after its pods are ready:
// kube-proxy follows in its own time. With the mesh nobody should need it.
func (s *Story) Reachable(ctx context.Context) error {
	pod, err := s.ClientPod(ctx)
	if err != nil {
		return err
	}
	return cluster.Poll(ctx, 30*time.Second, func(ctx context.Context) (string, error) {
		if _, err := s.call(ctx, pod.Name, HTTP); err != nil {
			return err.Error(), nil //nolint:nilerr // the pod may be deleted
		}
		return "", nil
	})
}
