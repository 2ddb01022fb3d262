package e2e

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

//go:embed testdata/kubectl
var kubectlManifests embed.FS

// The commands of kubectlCommands, in a namespace with the label and in one without, side by side: the output and the exit
// code are the same but for the differences of the table, each of which there is. How long a command takes differs by what
// the table allows.
func testKubectl(t *testing.T) {
	plain, meshed := newEnv(t, false), newEnv(t, true)
	for _, e := range []*env{plain, meshed} {
		e.crowded()
	}
	node := plain.anyNode()
	t.Cleanup(func() { // a drain that failed half way leaves the node cordoned
		if _, err := mesh.Kubectl(context.Background(), "", "uncordon", node); err != nil {
			t.Error(err)
		}
	})
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

// problems are what is not as the table says. Without the mesh there are no differences.
func (c kubectlCommand) problems(without, with kubectlOutcome, meshed bool) []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !strings.Contains(without.out, c.says) || c.says == "" && without.out != "" || without.exit != c.exit {
		problem("exit code %d, want %d, with %q in:\n%s", without.exit, c.exit, c.says, without.out)
	}
	want := kubectlOutcome{out: without.out, exit: without.exit}
	if meshed {
		want = c.withSidecar(without, problem)
	}
	if with.out != want.out || with.exit != want.exit {
		problem("exit code %d with a sidecar, want %d. It printed\n%s\nwant\n%s\nwithout a sidecar\n%s", with.exit, want.exit, with.out, want.out, without.out)
	}
	if allowed := without.took + c.longer + kubectlSlack; with.took > allowed {
		problem("took %s with a sidecar and %s without, want at most %s", with.took, without.took, allowed)
	}
	return problems
}

// withSidecar is what has to come out with a sidecar. An entry of the table that changes nothing is a problem.
func (c kubectlCommand) withSidecar(without kubectlOutcome, problem func(string, ...any)) kubectlOutcome {
	want := without
	for _, d := range c.differs {
		want.exit += d.exit
		for i := 0; i < len(d.instead); i += 2 {
			changed := regexp.MustCompile(d.instead[i]).ReplaceAllString(want.out, d.instead[i+1])
			if changed == want.out {
				problem("the table says that %q differs with a sidecar, which is not in:\n%s", d.instead[i], want.out)
			}
			want.out = changed
		}
	}
	return want
}

// kubectlSlack is what a command may take longer on a machine that does two at a time.
const kubectlSlack = 3 * time.Second

// noise is what differs between two namespaces, and between two runs, in what kubectl prints.
var noise = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`already (un)?cordoned`), "${1}cordoned"},                                               // the node is one for both
	{regexp.MustCompile(`(?mi)^waiting for .*\n`), ""},                                                          // how often a rollout was looked at
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{6,10}(-[bcdfghjklmnpqrstvwxz2456789]{5})?\b`), "-HASH"}, // of what a controller has made
	{regexp.MustCompile(`\b\d+ \(\d+[smh]+ ago\)`), "SOME"},                                                     // restarts
	{regexp.MustCompile(`\b(\d+[smh])+\b`), "AGE"},
	{regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`"(Elapsed|time)":[^,}]*`), `"$1":TIME`},
	{regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`(?s)Please review the fields above.*`), ""}, // advice
	{regexp.MustCompile(`[ \t]+`), " "},                              // columns
}

func normalised(out, namespace, node string) string {
	out = strings.ReplaceAll(strings.ReplaceAll(out, namespace, "NAMESPACE"), node, "NODE")
	for _, n := range noise {
		out = n.pattern.ReplaceAllString(out, n.name)
	}
	return out
}

// anyNode is a node that takes pods.
func (e *env) anyNode() string {
	e.Helper()
	nodes, err := e.CoreV1().Nodes().List(e.ctx, metav1.ListOptions{})
	e.must(err)
	for _, n := range nodes.Items {
		if !n.Spec.Unschedulable {
			return n.Name
		}
	}
	e.Fatal("no node takes pods")
	return ""
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

// docs/transparency.md says what the table says.
func TestKubectlPage(t *testing.T) {
	golden.CheckSection(t, "../../docs/transparency.md", "kubectl", kubectlPage())
}

func kubectlPage() []byte {
	var b strings.Builder
	b.WriteString("| `kubectl` | says | with a sidecar |\n|---|---|---|\n")
	written := map[string]bool{}
	for _, c := range kubectlCommands {
		says := "nothing"
		if c.says != "" {
			says = "`" + c.says + "`"
		}
		if c.exit != 0 {
			says += fmt.Sprintf(", exit code %d", c.exit)
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", c.command, says, c.seen())
		if !written[row] {
			b.WriteString(row)
		}
		written[row] = true
	}
	return []byte(b.String())
}

// seen is what differs, in words.
func (c kubectlCommand) seen() string {
	seen := "the same"
	if len(c.differs) > 0 {
		seen = ""
		for _, d := range c.differs {
			seen += "; **" + d.seen + "**"
		}
		seen = strings.TrimPrefix(seen, "; ")
	}
	if c.slower != "" {
		seen += ", later: " + c.slower
	}
	return seen
}
