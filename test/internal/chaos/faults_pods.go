package chaos

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// restartTime is for a container that the kubelet starts again: the third time in ten minutes it waits for 20 s, then for 40 s and so on.
const restartTime = 6 * time.Minute

// victim draws a pod of a Deployment, of those whose containers have been started anew least often.
func (s *suite) victim(ctx context.Context, draw *rand.Rand, namespace, selector string) (*corev1.Pod, error) {
	pods, err := s.Pods(ctx, namespace, selector)
	if err != nil {
		return nil, err
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	fewest := -1
	var list []corev1.Pod
	for _, p := range pods {
		n := 0
		for _, c := range slices.Concat(p.Status.InitContainerStatuses, p.Status.ContainerStatuses) {
			n += int(c.RestartCount)
		}
		if fewest < 0 || n < fewest {
			fewest, list = n, nil
		}
		if n == fewest {
			list = append(list, p)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("namespace %s has no pod of %s", namespace, selector)
	}
	p := pick(draw, list)
	return &p, nil
}

// ofSome draws a Deployment of servers, and a pod of it.
func (s *suite) ofSome(ctx context.Context, draw *rand.Rand, deployments []string) (deployment string, pod *corev1.Pod, err error) {
	deployment = pick(draw, deployments)
	pod, err = s.victim(ctx, draw, s.ns, "app="+deployment)
	return deployment, pod, err
}

// complete waits until a Deployment is complete, and none of its pods is ending.
func (s *suite) complete(deployment string) func(context.Context) error {
	selector := "app=" + deployment
	if deployment == gatewayPods {
		selector = gatewayv1.GatewayNameLabelKey + "=public"
	}
	return func(ctx context.Context) error { return s.allThere(ctx, s.ns, deployment, selector) }
}

// allThere waits until a Deployment is complete. It may not have heard yet that a pod is ending, so that comes first; and pods of before
// may still be ending when it is complete.
func (s *suite) allThere(ctx context.Context, namespace, deployment, selector string) error {
	if err := s.noneEnding(ctx, namespace, selector); err != nil {
		return err
	}
	if err := s.WaitDeployment(ctx, namespace, deployment, readyTimeout); err != nil {
		return err
	}
	return s.noneEnding(ctx, namespace, selector)
}

func (s *suite) noneEnding(ctx context.Context, namespace, selector string) error {
	return cluster.Poll(ctx, readyTimeout, func(ctx context.Context) (string, error) {
		list, err := s.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector})
		if err != nil {
			return "", err
		}
		for _, p := range list.Items {
			if p.DeletionTimestamp != nil {
				return "pod " + p.Name + " is ending", nil
			}
		}
		return "", nil
	})
}

// ending is what the orderly end of some pods of a Deployment excuses: who holds a TCP connection loses it with its server, and a call
// that is on it at that moment. Who calls addresses of pods goes on with old ones until its name service tells.
func ending(deployment string, from time.Time, pods int) []excuse {
	return []excuse{
		{why: "its TCP connection ended with the server", of: heldBy(deployment), from: from, most: pods},
		{why: "the address of a pod that is gone", of: directlyTo(deployment), from: from},
	}
}

// killed is what a process that dies excuses: calls that are in flight there. Until the pod is not ready any more, new connections are
// refused there, and a sidecar tries another endpoint.
func killed(deployment string, at time.Time) []excuse {
	return []excuse{
		{why: "in flight", of: answeredBy(deployment), from: at, until: at, atOnce: true},
		{why: "the address of a pod that does not answer", of: directlyTo(deployment), from: at},
	}
}

func podDeleted(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment, pod, err := s.ofSome(ctx, draw, gone)
	if err != nil {
		return nil, err
	}
	from := time.Now()
	if err := s.CoreV1().Pods(s.ns).Delete(ctx, pod.Name, metav1.DeleteOptions{}); err != nil {
		return nil, err
	}
	return &harm{target: "pod/" + pod.Name, settle: s.complete(deployment), excuses: ending(deployment, from, 1)}, nil
}

func podEvicted(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment, pod, err := s.ofSome(ctx, draw, gone)
	if err != nil {
		return nil, err
	}
	from := time.Now()
	eviction := &policyv1.Eviction{ObjectMeta: metav1.ObjectMeta{Namespace: s.ns, Name: pod.Name}}
	if err := s.CoreV1().Pods(s.ns).EvictV1(ctx, eviction); err != nil {
		return nil, err
	}
	return &harm{target: "pod/" + pod.Name, settle: s.complete(deployment), excuses: ending(deployment, from, 1)}, nil
}

// applicationKilled uses the control port, which the strict pods do not open to everybody.
func applicationKilled(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment, pod, err := s.ofSome(ctx, draw, []string{green, server})
	if err != nil {
		return nil, err
	}
	h := &harm{target: "pod/" + pod.Name, settle: s.restarted(pod, "app", deployment)}
	from := time.Now()
	if err := s.JSON(ctx, "POST", s.pod(pod.Name), api.ControlPort, "/crash", nil, nil); err != nil {
		return h, err
	}
	at, err := s.crashed(ctx, pod.Name, from)
	h.excuses = killed(deployment, at)
	return h, err
}

// crashed returns when the application of a pod has ended after a moment, from its log.
func (s *suite) crashed(ctx context.Context, pod string, after time.Time) (at time.Time, err error) {
	err = cluster.Poll(ctx, 20*time.Second, func(ctx context.Context) (string, error) {
		for _, previous := range []bool{true, false} { // it may have started again or not
			out, err := s.CoreV1().Pods(s.ns).GetLogs(pod, &corev1.PodLogOptions{Container: "app", Previous: previous}).DoRaw(ctx)
			if err != nil {
				continue
			}
			for lines := bufio.NewScanner(bytes.NewReader(out)); lines.Scan(); {
				var line struct {
					Event string
					At    time.Time
				}
				if json.Unmarshal(lines.Bytes(), &line) == nil && line.Event == "crash" && line.At.After(after) {
					at = line.At
				}
			}
			if !at.IsZero() {
				return "", nil
			}
		}
		return "no crash in the log of pod " + pod, nil
	})
	return at, err
}

// restarted waits until a container has been started once more than the pod knows, and its Deployment is complete.
func (s *suite) restarted(pod *corev1.Pod, container, deployment string) func(context.Context) error {
	before := restarts(pod, container)
	return func(ctx context.Context) error {
		if err := s.again(ctx, pod, container, before); err != nil {
			return err
		}
		if deployment == "" {
			return nil
		}
		return s.complete(deployment)(ctx)
	}
}

// again waits until a container of a pod has been started anew more often than before, and the pod is ready.
func (s *suite) again(ctx context.Context, pod *corev1.Pod, container string, before int32) error {
	err := cluster.Poll(ctx, restartTime, func(ctx context.Context) (string, error) {
		now, err := s.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if restarts(now, container) <= before || !cluster.Ready(now) {
			return cluster.PodState(now), nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("pod %s/%s, container %s: %w", pod.Namespace, pod.Name, container, err)
	}
	return nil
}

func restarts(pod *corev1.Pod, container string) int32 {
	for _, c := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if c.Name == container {
			return c.RestartCount
		}
	}
	return 0
}

func rolledOut(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment := pick(draw, gone)
	h := &harm{target: "deployment/" + deployment, settle: s.complete(deployment), excuses: ending(deployment, time.Now(), replicas[deployment])}
	return h, s.Restart(ctx, s.ns, deployment)
}

func gatewayRolledOut(ctx context.Context, s *suite, _ *rand.Rand) (*harm, error) {
	return &harm{target: "deployment/" + gatewayPods, settle: s.complete(gatewayPods)}, s.Restart(ctx, s.ns, gatewayPods)
}

func scaled(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment := pick(draw, gone)
	h := &harm{target: "deployment/" + deployment, settle: s.complete(deployment), excuses: ending(deployment, time.Now(), 2)}
	h.undo = func(ctx context.Context) error { return s.Scale(ctx, s.ns, deployment, replicas[deployment]) }
	if err := s.Scale(ctx, s.ns, deployment, replicas[deployment]+2); err != nil {
		return h, err
	}
	return h, s.WaitDeployment(ctx, s.ns, deployment, readyTimeout)
}

// processOfSome draws a Deployment of servers, and finds a program of the sidecar of a pod of it.
func (s *suite) processOfSome(ctx context.Context, draw *rand.Rand, program string) (deployment string, pod *corev1.Pod, p process, err error) {
	if deployment, pod, err = s.ofSome(ctx, draw, gone); err == nil {
		p, err = processOf(pod, program)
	}
	return deployment, pod, p, err
}

func envoyKilled(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment, pod, p, err := s.processOfSome(ctx, draw, envoyProgram)
	if err != nil {
		return nil, err
	}
	h := &harm{target: "pod/" + pod.Name, excuses: killed(deployment, time.Now())}
	h.settle = func(ctx context.Context) error {
		if err := s.envoyAgain(ctx, pod, p); err != nil {
			return err
		}
		return s.complete(deployment)(ctx)
	}
	return h, p.signal(syscall.SIGKILL)
}

// agentKilled ends the container, and its Envoy with it.
func agentKilled(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error) {
	deployment, pod, p, err := s.processOfSome(ctx, draw, "mizzen-proxy")
	if err != nil {
		return nil, err
	}
	h := &harm{target: "pod/" + pod.Name, settle: s.restarted(pod, config.ProxyContainer, deployment), excuses: killed(deployment, time.Now())}
	return h, p.signal(syscall.SIGKILL)
}

// callerEnvoyKilled excuses all that the caller does until it has an Envoy again, and its clients have connected again: its calls have no other
// way. gRPC libraries wait for a second or more after a connection that was refused, and fail all calls until then.
func callerEnvoyKilled(ctx context.Context, s *suite, _ *rand.Rand) (*harm, error) {
	pod, err := s.CoreV1().Pods(s.ns).Get(ctx, callerPod, metav1.GetOptions{})
	if err != nil {
		return nil, err
	}
	p, err := processOf(pod, envoyProgram)
	if err != nil {
		return nil, err
	}
	h := &harm{target: "pod/" + pod.Name, excuses: []excuse{{why: "the caller had no Envoy", of: madeBy(callerPod), from: time.Now()}}}
	h.settle = func(ctx context.Context) error { return s.envoyAgain(ctx, pod, p) }
	return h, p.signal(syscall.SIGKILL)
}

const envoyProgram = "envoy"

// envoyTime is for the agent to start an Envoy again, at once or after a pause of two seconds at most, and for that one to be ready.
const envoyTime = 5 * time.Second

// envoyAgain waits until another Envoy than one that was killed is ready in a pod, in the same container.
func (s *suite) envoyAgain(ctx context.Context, pod *corev1.Pod, before process) error {
	err := cluster.Poll(ctx, envoyTime, func(ctx context.Context) (string, error) {
		if now, err := processOf(pod, envoyProgram); err != nil || now == before {
			return "no other Envoy", nil //nolint:nilerr // it may come soon
		}
		status, body, err := s.Get(ctx, s.pod(pod.Name), fixed.AgentPort, "readyz")
		if err != nil {
			return err.Error(), nil //nolint:nilerr // it may answer soon
		}
		if status != http.StatusOK {
			return strings.TrimSpace(string(body)), nil
		}
		return "", nil
	})
	if err != nil {
		return fmt.Errorf("pod %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	now, err := s.CoreV1().Pods(pod.Namespace).Get(ctx, pod.Name, metav1.GetOptions{})
	if err != nil {
		return err
	}
	if n := restarts(now, config.ProxyContainer) - restarts(pod, config.ProxyContainer); n > 0 {
		return fmt.Errorf("pod %s/%s: the container %s was started again, want only its Envoy", pod.Namespace, pod.Name, config.ProxyContainer)
	}
	return nil
}
