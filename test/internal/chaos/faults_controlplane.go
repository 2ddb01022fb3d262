package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// controller is the control plane's Deployment, program and Lease; controllerContainer its container.
const (
	controller          = "mizzen-controller"
	controllerContainer = "controller"
	controllerLabel     = "app.kubernetes.io/name=" + controller
)

// No fault of the control plane excuses a failed call: sidecars go on with what they have.

// controlPlaneComplete waits until all replicas are there and none is ending.
func (s *suite) controlPlaneComplete(ctx context.Context) error {
	return s.allThere(ctx, cluster.SystemNamespace, controller, controllerLabel)
}

func replicaDeleted(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	pod, err := s.victim(ctx, draw, cluster.SystemNamespace, controllerLabel)
	if err != nil {
		return nil, err
	}
	return s.deleteReplica(ctx, pod.Name)
}

func leaderDeleted(ctx context.Context, s *suite, _ *rand.Rand) (*harm, error) {
	lease, err := s.CoordinationV1().Leases(cluster.SystemNamespace).Get(ctx, controller, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity == "" {
		return nil, fmt.Errorf("lease %s/%s has no holder", cluster.SystemNamespace, controller)
	}
	h, err := s.deleteReplica(ctx, *lease.Spec.HolderIdentity)
	if err != nil {
		return nil, err
	}
	complete := h.settle
	h.settle = func(ctx context.Context) error {
		if err := s.newLeader(ctx, *lease.Spec.HolderIdentity); err != nil {
			return err
		}
		return complete(ctx)
	}
	return h, nil
}

// newLeader waits until another replica leads.
func (s *suite) newLeader(ctx context.Context, before string) error {
	return cluster.Poll(ctx, time.Minute, func(ctx context.Context) (string, error) {
		lease, err := s.CoordinationV1().Leases(cluster.SystemNamespace).Get(ctx, controller, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if holder := lease.Spec.HolderIdentity; holder == nil || *holder == "" || *holder == before {
			return fmt.Sprintf("another holder of lease %s/%s than %s", cluster.SystemNamespace, controller, before), nil
		}
		return "", nil
	})
}

func (s *suite) deleteReplica(ctx context.Context, name string) (*harm, error) {
	h := &harm{target: "pod/" + name, settle: s.controlPlaneComplete}
	return h, s.CoreV1().Pods(cluster.SystemNamespace).Delete(ctx, name, metav1.DeleteOptions{})
}

// replica draws a replica whose process is on this machine.
func (s *suite) replica(ctx context.Context, draw *rand.Rand) (*corev1.Pod, process, error) {
	pod, err := s.victim(ctx, draw, cluster.SystemNamespace, controllerLabel)
	if err != nil {
		return nil, process{}, err
	}
	p, err := processOf(pod, controller)
	return pod, p, err
}

func replicaKilled(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	pod, p, err := s.replica(ctx, draw)
	if err != nil {
		return nil, err
	}
	before := restarts(pod, controllerContainer)
	h := &harm{target: "pod/" + pod.Name, settle: func(ctx context.Context) error {
		if err := s.again(ctx, pod, controllerContainer, before); err != nil {
			return err
		}
		return s.controlPlaneComplete(ctx)
	}}
	return h, p.signal(syscall.SIGKILL)
}

// replicaPaused stops one for less time than its liveness probe allows.
func replicaPaused(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	pod, p, err := s.replica(ctx, draw)
	if err != nil {
		return nil, err
	}
	length := seconds(draw, 3, 8)
	h := &harm{target: fmt.Sprintf("pod/%s for %s", pod.Name, length), settle: s.controlPlaneComplete}
	h.undo = func(context.Context) error { return p.signal(syscall.SIGCONT) }
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return h, err
	}
	return h, hold(ctx, length)
}

// controlPlaneAway waits until all replicas are gone, and some seconds more.
func controlPlaneAway(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	d, err := s.AppsV1().Deployments(cluster.SystemNamespace).Get(ctx, controller, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	if d.Spec.Replicas == nil || *d.Spec.Replicas == 0 {
		return nil, fmt.Errorf("deployment %s/%s has no replicas", d.Namespace, d.Name)
	}
	length := seconds(draw, 3, 15)
	h := &harm{target: fmt.Sprintf("deployment/%s for %s", controller, length), settle: s.controlPlaneComplete}
	h.undo = func(ctx context.Context) error {
		return s.Scale(ctx, cluster.SystemNamespace, controller, int(*d.Spec.Replicas))
	}
	if err := s.Scale(ctx, cluster.SystemNamespace, controller, 0); err != nil {
		return h, err
	}
	if err := s.WaitNoPods(ctx, cluster.SystemNamespace, controllerLabel, readyTimeout); err != nil {
		return h, err
	}
	return h, hold(ctx, length)
}

// apiServerPaused stops the API server of the embedded cluster. After ten seconds the control plane has no leader.
func apiServerPaused(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	return s.componentPaused(ctx, draw, apiServer)
}

// etcdPaused leaves an API server that answers some requests from its caches, and others not.
func etcdPaused(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	return s.componentPaused(ctx, draw, "etcd")
}

// componentPaused stops a component of the embedded cluster for a while.
func (s *suite) componentPaused(ctx context.Context, draw *rand.Rand, component string) (*harm, error) {
	pid, err := s.Component(ctx, component)
	if err != nil {
		return nil, err
	}
	length := seconds(draw, 3, 20)
	h := &harm{target: fmt.Sprintf("%s for %s", component, length), settle: func(ctx context.Context) error {
		if err := s.WaitAPI(ctx, time.Minute); err != nil {
			return err
		}
		return s.controlPlaneComplete(ctx)
	}}
	h.undo = func(context.Context) error { return syscall.Kill(pid, syscall.SIGCONT) }
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		return h, fmt.Errorf("%s, process %d: %w", component, pid, err)
	}
	return h, hold(ctx, length)
}

// apiServer is a component of the embedded cluster.
const apiServer = "kube-apiserver"
