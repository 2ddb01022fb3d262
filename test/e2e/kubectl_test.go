package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// kubectlRow is a command that is run in a labelled namespace and in an unlabelled one.
type kubectlRow struct {
	state string
	args  string
	stdin string
	// until holds of the pod in the state, where the command is for a pod of a state.
	pod   string
	until func(*corev1.Pod) bool
	// differs is a regular expression of what kubectl says in the labelled namespace, where that is not the same, and why
	// the reason.
	differs, why string
}

// kubectlImage is the placeholder of the test application's image, and kubectlNode that of the node.
const (
	kubectlImage = "IMAGE"
	kubectlNode  = "NODE"
)

const kubectlApp = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: app}
spec:
  selector: {matchLabels: {app: app}}
  template:
    metadata: {labels: {app: app}}
    spec:
      containers:
      - name: app
        image: IMAGE
        imagePullPolicy: IfNotPresent
        args: [server, "--http=:8080"]
        ports: [{containerPort: 8080}]
        readinessProbe: {periodSeconds: 1, httpGet: {path: /, port: 8080}}
---
apiVersion: v1
kind: Service
metadata: {name: app}
spec: {selector: {app: app}, ports: [{name: http, port: 8080}]}
`

// kubectlPod is a bare pod: its name, what the probe is, and what runs.
func kubectlPod(name, more, args string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  restartPolicy: %s
  containers:
  - {name: app, image: IMAGE, imagePullPolicy: IfNotPresent, args: [%s]}
`, name, more, args)
}

func waitingFor(reasons ...string) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool {
		for _, s := range p.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && strings.Contains(strings.Join(reasons, " "), w.Reason) {
				return true
			}
		}
		return false
	}
}

func inPhase(phase corev1.PodPhase) func(*corev1.Pod) bool {
	return func(p *corev1.Pod) bool { return p.Status.Phase == phase }
}

var kubectlRows = []kubectlRow{
	{state: "nothing there", args: "apply -f -", stdin: kubectlApp},
	{state: "applied", args: "apply -f -", stdin: kubectlApp},
	{state: "applied", args: "diff -f -", stdin: kubectlApp},
	{state: "applied", args: "apply --server-side --field-manager=gitops -f -", stdin: kubectlApp},
	{state: "applied twice", args: "apply --server-side --field-manager=gitops -f -", stdin: kubectlApp},
	{state: "starting", args: "rollout status deployment/app --timeout=60s"},
	{state: "running", args: "get deployment app --no-headers"},
	{state: "running", args: "get pods -l app=app --no-headers", differs: `app-POD 2/2 Running 0 AGE`, why: "kubectl counts a native sidecar as a container"},
	{state: "running", args: "logs deployment/app --tail=1 --since=1ms"},
	{state: "running", args: "exec deployment/app -- /testapp call --target=http://127.0.0.1:8080/ --timeout=5s"},
	{state: "running", args: "debug deployment/app --image=IMAGE --container=debugger --target=app -- /testapp sleep"},
	{state: "running", args: "label pods -l app=app tier=web"},
	{state: "running", args: "annotate pods -l app=app example.com/by=hand"},
	{state: "running", args: "set env deployment/app A=b"},
	{state: "changed", args: "rollout status deployment/app --timeout=60s"},
	{state: "running", args: "rollout restart deployment/app"},
	{state: "restarted", args: "rollout status deployment/app --timeout=60s"},
	{state: "running", args: "rollout undo deployment/app"},
	{state: "undone", args: "rollout status deployment/app --timeout=60s"},
	{state: "running", args: "scale deployment/app --replicas=2"},
	{state: "scaled", args: "rollout status deployment/app --timeout=60s"},
	{state: "running", args: "drain NODE --dry-run=server --ignore-daemonsets --pod-selector=app=app"},
	{state: "nothing there", args: "run once --image=IMAGE --image-pull-policy=IfNotPresent --restart=Never --attach --rm --quiet --command -- /testapp call --target=http://app:8080/ --timeout=5s"},
	{state: "nothing there", args: "create job once --image=IMAGE -- /testapp call --target=http://app:8080/ --timeout=5s"},
	{state: "created", args: "wait --for=condition=complete job/once --timeout=60s"},
	{state: "completed", args: "get job once --no-headers"},
	{state: "completed", args: "delete job once"},

	{state: "nothing there", args: "apply -f -", stdin: kubectlPod("bare", "Always", "sleep")},
	{state: "applied", args: "apply -f -", stdin: kubectlPod("bare", "Always", "sleep")},
	{state: "applied", args: "apply --server-side --field-manager=gitops -f -", stdin: kubectlPod("bare", "Always", "sleep")},
	{state: "running", args: "debug bare --copy-to=copy --image=IMAGE --container=debugger -- /testapp sleep", pod: "bare", until: inPhase(corev1.PodRunning)},
	{state: "running", args: "delete pod copy", pod: "copy", until: inPhase(corev1.PodRunning)},
	{state: "running", args: "delete pod bare", pod: "bare", until: inPhase(corev1.PodRunning)},

	{state: "nothing there", args: "apply -f -", stdin: kubectlPod("gated", "Always\n  schedulingGates: [{name: example.com/wait}]", "sleep")},
	{state: "not scheduled", args: "delete pod gated", pod: "gated", until: inPhase(corev1.PodPending)},
	{state: "nothing there", args: "run pulling --image=example.invalid/none:1 --image-pull-policy=Never"},
	{state: "no image", args: "delete pod pulling", pod: "pulling", until: waitingFor("ErrImageNeverPull")},
	{state: "nothing there", args: "apply -f -", stdin: kubectlPod("crashing", "Always", "nothing")},
	{state: "crashing", args: "logs crashing --tail=1", pod: "crashing", until: waitingFor("CrashLoopBackOff")},
	{state: "crashing", args: "delete pod crashing", pod: "crashing", until: waitingFor("CrashLoopBackOff")},
	{state: "nothing there", args: "apply -f -", stdin: kubectlPod("failing", "Never", "nothing")},
	{state: "failed", args: "get pod failing --no-headers", pod: "failing", until: inPhase(corev1.PodFailed), differs: `failing 0/2 Error 0 AGE`, why: "kubectl counts a native sidecar as a container"},
	{state: "failed", args: "delete pod failing"},

	{state: "running", args: "delete deployment app --cascade=foreground"},
	{state: "deleted", args: "get pods --no-headers"},
}

// kubectlSlower is how much longer a command may take in the labelled namespace: a pod's start and its end with a sidecar.
const kubectlSlower = 10 * time.Second

// kubectl does the same and says the same in a labelled namespace as in another, in each state of a pod. What differs is in
// the table, which docs/transparency.md shows.
func testKubectl(t *testing.T) {
	envs := map[bool]*env{false: newEnv(t, false), true: newEnv(t, true)}
	nodes, err := mesh.CoreV1().Nodes().List(t.Context(), metav1.ListOptions{})
	envs[true].must(err)
	var page strings.Builder
	page.WriteString("| state | kubectl | says, in both |\n|---|---|---|\n")
	for _, row := range kubectlRows {
		said, took := map[bool]string{}, map[bool]time.Duration{}
		var both sync.WaitGroup
		var mu sync.Mutex
		for labelled, e := range envs {
			both.Go(func() {
				text, d := e.kubectlRow(row, nodes.Items[0].Name)
				mu.Lock()
				defer mu.Unlock()
				said[labelled], took[labelled] = text, d
			})
		}
		both.Wait()
		if t.Failed() {
			return
		}
		what := fmt.Sprintf("%s, kubectl %s", row.state, row.args)
		differs := row.differs != "" && !withoutMesh
		switch {
		case !differs && said[true] != said[false]:
			t.Errorf("%s: says in the labelled namespace\n%s\nand in the other\n%s", what, said[true], said[false])
		case differs && (said[true] == said[false] || !regexp.MustCompile("^(?:"+row.differs+")$").MatchString(said[true])):
			t.Errorf("%s: says in the labelled namespace\n%s\nwant %q, and not what it says in the other\n%s", what, said[true], row.differs, said[false])
		}
		if took[true] > took[false]+kubectlSlower {
			t.Errorf("%s: took %s in the labelled namespace, %s in the other", what, took[true], took[false])
		}
		fmt.Fprintf(&page, "| %s | `%s` | %s |\n", row.state, strings.ReplaceAll(row.args, "|", `\|`), row.says(said[false]))
	}
	if !withoutMesh && !t.Failed() {
		golden.Check(t, "testdata/kubectl.md", []byte(page.String()))
	}
}

// says is the cell of the table.
func (r kubectlRow) says(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	cell := strings.Join(lines, "<br>")
	if cell == "" {
		cell = "(nothing)"
	}
	if r.differs != "" {
		cell += fmt.Sprintf("; **labelled: %s**, for %s", r.differs, r.why)
	}
	return cell
}

// kubectlRow runs a command in the namespace. It gives what kubectl has said, without what differs from run to run, and how long it took.
func (e *env) kubectlRow(row kubectlRow, node string) (said string, took time.Duration) {
	if row.pod != "" {
		err := e.polled(readyTimeout, func() (string, error) {
			p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, row.pod, metav1.GetOptions{})
			if err != nil || row.until(p) {
				return "", err
			}
			return fmt.Sprintf("pod %s: %s (%s) %v", row.pod, row.state, p.Status.Phase, p.Status.ContainerStatuses), nil
		})
		if err != nil {
			e.Errorf("%s: %v", e.kind(), err)
			return "", 0
		}
	}
	fill := strings.NewReplacer(kubectlImage, testImage, kubectlNode, node)
	args := append([]string{"-n", e.ns}, strings.Fields(fill.Replace(row.args))...)
	start := time.Now()
	out, err := e.Kubectl(e.ctx, fill.Replace(row.stdin), args...)
	took = time.Since(start)
	if err != nil {
		e.Errorf("%s, %s: %v", e.kind(), row.state, err)
	}
	said = strings.NewReplacer(e.ns, "NAMESPACE", testImage, kubectlImage, node, kubectlNode).Replace(out)
	for _, n := range kubectlNoise {
		said = n.pattern.ReplaceAllString(said, n.with)
	}
	return strings.TrimSpace(said), took
}

var kubectlNoise = []struct {
	pattern *regexp.Regexp
	with    string
}{
	{regexp.MustCompile(`\bapp-[0-9a-f]{7,10}(-[0-9a-z]{5})?\b`), "app-POD"},
	{regexp.MustCompile(`\bonce-[0-9a-z]{5}\b`), "once-POD"},
	{regexp.MustCompile(`\b(\d+m)?\d+s\b`), "AGE"},
	{regexp.MustCompile(`[ \t]+`), " "},
	// How far a rollout is when it is asked differs.
	{regexp.MustCompile(`(?m)^Waiting for deployment .*\n`), ""},
}
