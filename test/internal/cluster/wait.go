package cluster

import (
	"context"
	"fmt"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Poll calls f until it says done, or until timeout; the error then holds what f last said was
// missing. An error of f ends it at once.
func Poll(ctx context.Context, timeout time.Duration, f func(ctx context.Context) (missing string, err error)) error {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	missing := ""
	for {
		now, err := f(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			return err
		case err == nil && now == "":
			return nil
		case err == nil:
			missing = now
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("after %s still: %s", timeout, missing)
		case <-tick.C:
		}
	}
}

// WaitAPI waits until the API server says it is ready.
func (c *Cluster) WaitAPI(ctx context.Context, timeout time.Duration) error {
	return Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		_, err := c.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		if err != nil {
			return "/readyz: " + err.Error(), nil //nolint:nilerr // it may not listen yet
		}
		return "", nil
	})
}

// WaitDeployment waits until a rollout is done: every replica updated and ready, no other pod left.
func (c *Cluster) WaitDeployment(ctx context.Context, namespace, name string, timeout time.Duration) error {
	err := Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		d, err := c.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return rollout(d), nil
	})
	if err != nil {
		return fmt.Errorf("deployment %s/%s: %w", namespace, name, err)
	}
	return nil
}

// rollout says what a rollout still lacks.
func rollout(d *appsv1.Deployment) string {
	want, s := int32(1), d.Status
	if d.Spec.Replicas != nil {
		want = *d.Spec.Replicas
	}
	if s.ObservedGeneration < d.Generation || s.UpdatedReplicas != want || s.Replicas != want || s.AvailableReplicas != want {
		return fmt.Sprintf("%d of %d replicas updated, %d available, %d in all", s.UpdatedReplicas, want, s.AvailableReplicas, s.Replicas)
	}
	return ""
}

// Restart begins a rollout of the same template, as kubectl rollout restart does.
func (c *Cluster) Restart(ctx context.Context, namespace, name string) error {
	patch := fmt.Sprintf(`{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":%q}}}}}`, time.Now().Format(time.RFC3339Nano))
	_, err := c.AppsV1().Deployments(namespace).Patch(ctx, name, types.StrategicMergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// Scale sets a Deployment's replicas.
func (c *Cluster) Scale(ctx context.Context, namespace, name string, replicas int) error {
	patch := fmt.Sprintf(`{"spec":{"replicas":%d}}`, replicas)
	_, err := c.AppsV1().Deployments(namespace).Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	return err
}

// Pods lists the pods of a label selector that are not being deleted.
func (c *Cluster) Pods(ctx context.Context, namespace, selector string) ([]corev1.Pod, error) {
	list, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
	if err != nil {
		return nil, err
	}
	live := list.Items[:0]
	for _, p := range list.Items {
		if p.DeletionTimestamp == nil {
			live = append(live, p)
		}
	}
	return live, nil
}

// WaitPodReady waits until one pod is ready.
func (c *Cluster) WaitPodReady(ctx context.Context, pod Pod, timeout time.Duration) error {
	err := Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		p, err := c.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if Ready(p) {
			return "", nil
		}
		return "not ready: " + PodState(p), nil
	})
	if err != nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return nil
}

// WaitNoPods waits until no pod of a selector is left, terminating ones included.
func (c *Cluster) WaitNoPods(ctx context.Context, namespace, selector string, timeout time.Duration) error {
	return Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		list, err := c.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil || len(list.Items) == 0 {
			return "", err
		}
		return fmt.Sprintf("%d pods of %s, such as %s", len(list.Items), selector, list.Items[0].Name), nil
	})
}

// WaitNoNamespace waits until a namespace is gone.
func (c *Cluster) WaitNoNamespace(ctx context.Context, name string, timeout time.Duration) error {
	return Poll(ctx, timeout, func(ctx context.Context) (string, error) {
		_, err := c.CoreV1().Namespaces().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return "", nil
		}
		return "namespace " + name + " exists", err
	})
}

// Ready says whether the pod's Ready condition is true.
func Ready(p *corev1.Pod) bool {
	for _, c := range p.Status.Conditions {
		if c.Type == corev1.PodReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return false
}

// PodState says in a line where a pod stands.
func PodState(p *corev1.Pod) string {
	parts := []string{string(p.Status.Phase)}
	for _, s := range append(append([]corev1.ContainerStatus{}, p.Status.InitContainerStatuses...), p.Status.ContainerStatuses...) {
		state := "running"
		if w := s.State.Waiting; w != nil {
			state = w.Reason + " " + w.Message
		} else if t := s.State.Terminated; t != nil {
			state = fmt.Sprintf("exit %d", t.ExitCode)
		}
		parts = append(parts, fmt.Sprintf("%s: %s, ready=%t, restarts=%d", s.Name, strings.TrimSpace(state), s.Ready, s.RestartCount))
	}
	return strings.Join(parts, "; ")
}

// Containers names all containers of a pod, init containers first.
func Containers(p *corev1.Pod) []string {
	var names []string
	for _, c := range append(append([]corev1.Container{}, p.Spec.InitContainers...), p.Spec.Containers...) {
		names = append(names, c.Name)
	}
	return names
}
