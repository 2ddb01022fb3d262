package e2e

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

//go:embed testdata/kubectl
var kubectlManifests embed.FS

// The commands of kubectlCommands, in a namespace with the label and in one without, side by side: the output and the exit
// code are the same but for the differences of the table, each of which there is. How long a command takes differs by what
// the table allows.
func TestKubectl(t *testing.T) {
	alone(t)
	plain, meshed := newEnv(t, false), newEnv(t, true)
	for _, e := range []*env{plain, meshed} {
		e.crowded()
	}
	node := plain.borrowNode()
	for _, c := range kubectlCommands {
		look := func() (problems string, err error) {
			without, with, err := c.sideBySide(plain, meshed, node)
			if err != nil {
				return "", err
			}
			t.Logf("kubectl %s: %s, with a sidecar %s", c.command, round(without.took), round(with.took))
			return strings.Join(c.problems(without, with, meshed.meshed), "\n"), nil
		}
		if c.unsteady {
			plain.eventually(readyTimeout, look)
			continue
		}
		problems, err := look()
		plain.must(err)
		if problems != "" {
			t.Errorf("kubectl %s: %s", c.command, problems)
		}
	}
}

// kubectlOutcome is what a command has printed, on both of its outputs, and how it has ended.
type kubectlOutcome struct {
	out  string
	exit int
	took time.Duration
}

// sideBySide gives the command in both namespaces at a time.
func (c kubectlCommand) sideBySide(plain, meshed *env, node string) (without, with kubectlOutcome, err error) {
	var group errgroup.Group
	for e, outcome := range map[*env]*kubectlOutcome{plain: &without, meshed: &with} {
		group.Go(func() (err error) {
			if c.after != nil {
				if err := e.polled(readyTimeout, func() (string, error) { return c.after(e) }); err != nil {
					return err
				}
			}
			*outcome, err = c.run(e, node)
			return err
		})
	}
	return without, with, group.Wait()
}

// run fails where kubectl could not be run. A file among the words of the command is one of the manifests.
func (c kubectlCommand) run(e *env, node string) (kubectlOutcome, error) {
	placed := strings.NewReplacer("NAMESPACE", e.ns, "IMAGE", testImage, "NODE", node)
	words, manifests := []string{"-n", e.ns}, ""
	for word := range strings.FieldsSeq(c.command) {
		if strings.HasSuffix(word, ".yaml") {
			file, err := kubectlManifests.ReadFile("testdata/kubectl/" + word)
			if err != nil {
				return kubectlOutcome{}, err
			}
			word, manifests = "-", placed.Replace(string(file))
		}
		words = append(words, placed.Replace(word))
	}
	start := time.Now()
	out, err := e.Kubectl(e.ctx, manifests, words...)
	outcome := kubectlOutcome{out: normalised(out, e.ns, node), took: time.Since(start)}
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		outcome.exit, err = exit.ExitCode(), nil
	}
	return outcome, err
}

// borrowNode gives a node that takes pods. The test may drain it: it takes pods again at the end of the test, or when sweep
// finds the mark that a killed run has left.
func (e *env) borrowNode() string {
	e.Helper()
	nodes, err := e.CoreV1().Nodes().List(e.ctx, metav1.ListOptions{})
	e.must(err)
	i := slices.IndexFunc(nodes.Items, func(n corev1.Node) bool { return !n.Spec.Unschedulable })
	if i < 0 {
		e.Fatal("no node takes pods")
	}
	name := nodes.Items[i].Name
	_, err = e.CoreV1().Nodes().Patch(e.ctx, name, types.MergePatchType, []byte(`{"metadata":{"labels":{"`+runLabel+`":"true"}}}`), metav1.PatchOptions{})
	e.must(err)
	e.Cleanup(func() {
		if err := returnNodes(context.Background()); err != nil {
			e.Error(err)
		}
	})
	return name
}

// returnNodes has the nodes that a test has borrowed take pods.
func returnNodes(ctx context.Context) error {
	nodes, err := mesh.CoreV1().Nodes().List(ctx, metav1.ListOptions{LabelSelector: runLabel})
	if err != nil {
		return err
	}
	back := []byte(`{"metadata":{"labels":{"` + runLabel + `":null}},"spec":{"unschedulable":null}}`)
	for _, n := range nodes.Items {
		if _, err := mesh.CoreV1().Nodes().Patch(ctx, n.Name, types.MergePatchType, back, metav1.PatchOptions{}); err != nil {
			return err
		}
	}
	return nil
}

// inTheirStates is a condition: each pod of states.yaml has come to the state of its name.
func inTheirStates(e *env) (missing string, err error) {
	for name, reached := range podStates {
		p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		if !reached(p) {
			return fmt.Sprintf("%s pod %s in its state, but %s", e.kind(), name, p.Status.Phase), nil
		}
	}
	return "", nil
}

// podStates tells of each pod of states.yaml whether it has come to the state of its name.
var podStates = map[string]func(*corev1.Pod) bool{
	"running": func(p *corev1.Pod) bool { return statusOf(p, "app").State.Running != nil },
	"unready": func(p *corev1.Pod) bool { return statusOf(p, "app").State.Running != nil },
	"gated": func(p *corev1.Pod) bool {
		return len(p.Status.Conditions) > 0 && p.Status.Conditions[0].Reason == corev1.PodReasonSchedulingGated
	},
	"no-image": func(p *corev1.Pod) bool {
		waiting := statusOf(p, "app").State.Waiting
		return waiting != nil && waiting.Reason == "ErrImageNeverPull"
	},
	"no-volume":     func(p *corev1.Pod) bool { return p.Status.StartTime != nil },
	"crashing":      func(p *corev1.Pod) bool { return crashes(statusOf(p, "app")) },
	"crashing-init": func(p *corev1.Pod) bool { return crashes(statusOf(p, "init")) },
	"failed":        func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodFailed },
	"completed":     func(p *corev1.Pod) bool { return p.Status.Phase == corev1.PodSucceeded },
}

// crashes reports whether a container has been started again and is between two starts: Kubernetes says of most of that time
// that it has terminated, and of some that it waits.
func crashes(s corev1.ContainerStatus) bool { return s.RestartCount > 0 && s.State.Running == nil }

// statusOf gives the status of a container, or none.
func statusOf(p *corev1.Pod, container string) corev1.ContainerStatus {
	for _, s := range append(p.Status.InitContainerStatuses, p.Status.ContainerStatuses...) {
		if s.Name == container {
			return s
		}
	}
	return corev1.ContainerStatus{}
}

// debugged is a condition: the ephemeral container of the pod bare runs.
func debugged(e *env) (missing string, err error) {
	p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, "bare", metav1.GetOptions{})
	if err != nil {
		return "", err
	}
	for _, s := range p.Status.EphemeralContainerStatuses {
		if s.State.Running != nil {
			return "", nil
		}
	}
	return "the ephemeral container of pod bare", nil
}

// gone is a condition: the namespace has no pod on its way out.
func gone(e *env) (missing string, err error) {
	pods, err := e.CoreV1().Pods(e.ns).List(e.ctx, metav1.ListOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	for _, p := range pods.Items {
		if p.DeletionTimestamp != nil {
			return "the end of pod " + p.Name, nil
		}
	}
	return "", nil
}
