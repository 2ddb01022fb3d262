package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
	"github.com/mizzen-mesh/mizzen/test/internal/figures"
	"github.com/mizzen-mesh/mizzen/test/internal/story"
)

// cniNode is the embedded cluster's node, as far as the plugin goes.
type cniNode struct{ confDir, binDir, runDir string }

// newCNINode skips the test on other clusters, whose nodes' files are out of reach.
func newCNINode(t *testing.T) cniNode {
	t.Helper()
	n := cniNode{
		confDir: filepath.Join(mesh.Root, ".cluster", "config", "cni"),
		binDir:  filepath.Join(mesh.Root, ".cluster", "cni-bin"),
	}
	if _, err := os.Stat(n.binDir); err != nil || os.Getenv("KUBECONFIG") != "" {
		t.Skip("the node's CNI configuration is not at hand: not the embedded cluster")
	}
	var err error
	if n.runDir, err = os.MkdirTemp("/run", "mizzen-cni-"); err != nil { // short, for a socket
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(n.runDir) })
	return n
}

func (n cniNode) values() []string {
	return []string{
		"cni.enabled=true", "cni.confDir=" + n.confDir, "cni.binDir=" + n.binDir, "cni.runDir=" + n.runDir,
		// The quota below wants limits of every container.
		"mesh.sidecar.resources.requests.cpu=50m", "mesh.sidecar.resources.requests.memory=64Mi",
		"mesh.sidecar.resources.limits.cpu=1", "mesh.sidecar.resources.limits.memory=256Mi",
	}
}

func (n cniNode) conflist(t *testing.T) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(n.confDir, "10-mizzen.conflist"))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// entry waits until the plugin's entry is in the node's configuration, or is not.
func (n cniNode) entry(e *env, want bool) {
	e.Helper()
	e.eventually(30*time.Second, func() (string, error) {
		if has := bytes.Contains(n.conflist(e.T), []byte(`"mizzen-cni"`)); has != want {
			return fmt.Sprintf("the entry in the node's CNI configuration: %t, want %t", has, want), nil
		}
		return "", nil
	})
}

// With the CNI plugin a namespace that enforces the strictest standard, and a quota on limits, takes the story as it is.
func TestCNI(t *testing.T) {
	alone(t)
	const calls, tolerance = 3000, 5
	n := newCNINode(t)
	plain := newEnv(t, true)
	plain.server("before", 1)
	plain.ready("before")
	before := n.conflist(t)

	e := newEnv(t, false)
	e.restrict()
	e.install(n.values()...)
	n.entry(e, true)
	s := &story.Story{Cluster: mesh, Namespace: e.ns}
	quiet := func(string) {}
	e.must(s.Label(e.ctx, true))
	e.must(s.Apply(e.ctx))
	e.must(s.Settled(e.ctx, quiet))
	e.must(s.Reachable(e.ctx))
	pod, err := s.ClientPod(e.ctx)
	e.must(err)
	e.capturedByCNI(pod)
	for name, endpoint := range map[string]string{"HTTP": story.HTTP, "gRPC": story.GRPC} {
		counts, err := s.Measure(e.ctx, endpoint, calls, quiet)
		e.must(err)
		figure(t, name+" in a restricted namespace", figures.Line(counts), fmt.Sprintf("33.3 ± %d %% on each of 3", tolerance))
		if err := figures.Even(counts, story.Replicas, tolerance); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	readyLater(newEnv(t, false), newEnv(t, true), "with the CNI plugin, Ready later than without injection", 2*time.Second)
	e.cniRewritten(n, before)
	e.cniAway(n)

	// Pods from before, with their init container, go on beside the others.
	plain.server("server", 1) // this one has none
	plain.ready("server")
	plain.reachable(plain.caller(), httpCall)
	plain.ready("before")
	e.install()
	n.entry(e, false)
	if leftover := n.conflist(t); !sameJSON(t, before, leftover) {
		t.Errorf("the node's CNI configuration after the plugin's end:\n%s\nbefore:\n%s", leftover, before)
	}
	if _, err := os.Stat(filepath.Join(n.runDir, "mizzen-cni.sock")); !os.IsNotExist(err) {
		t.Errorf("the socket stayed: %v", err)
	}
	plain.create(plain.pod("after", serverPod()))
	plain.must(plain.WaitPodReady(plain.ctx, cluster.Pod{Namespace: plain.ns, Name: "after"}, readyTimeout))
	plain.hasSidecar(cluster.Pod{Namespace: plain.ns, Name: "after"})
}

func sameJSON(t *testing.T, a, b []byte) bool {
	t.Helper()
	var x, y any
	if err := errors.Join(json.Unmarshal(a, &x), json.Unmarshal(b, &y)); err != nil {
		t.Fatal(err)
	}
	return reflect.DeepEqual(x, y)
}

// restrict makes the namespace as strict as Kubernetes knows it.
func (e *env) restrict() {
	e.Helper()
	patch := `{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":"restricted"}}}`
	_, err := e.CoreV1().Namespaces().Patch(e.ctx, e.ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	e.must(err)
	quantities := func(cpu, memory string) corev1.ResourceList {
		return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
	}
	_, err = e.CoreV1().ResourceQuotas(e.ns).Create(e.ctx, &corev1.ResourceQuota{
		ObjectMeta: metav1.ObjectMeta{Name: "limits"},
		Spec: corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			corev1.ResourceLimitsCPU: resource.MustParse("40"), corev1.ResourceLimitsMemory: resource.MustParse("8Gi"),
		}},
	}, metav1.CreateOptions{})
	e.must(err)
	_, err = e.CoreV1().LimitRanges(e.ns).Create(e.ctx, &corev1.LimitRange{
		ObjectMeta: metav1.ObjectMeta{Name: "defaults"},
		Spec: corev1.LimitRangeSpec{Limits: []corev1.LimitRangeItem{{
			Type: corev1.LimitTypeContainer, Default: quantities("1", "128Mi"), DefaultRequest: quantities("10m", "16Mi"),
		}}},
	}, metav1.CreateOptions{})
	e.must(err)
}

// capturedByCNI asserts that the pod has a sidecar and nothing that captures.
func (e *env) capturedByCNI(p *corev1.Pod) {
	e.Helper()
	if names := cluster.Containers(p); names[0] != config.ProxyContainer || slices.Contains(names, config.CaptureContainer) {
		e.Fatalf("pod %s: containers %v, want %s first, and no %s", p.Name, names, config.ProxyContainer, config.CaptureContainer)
	}
}

// caller makes a pod that only makes calls.
func (e *env) caller() cluster.Pod {
	e.Helper()
	e.capturedByCNI(e.create(e.pod("caller", serverPod("server"))))
	p := cluster.Pod{Namespace: e.ns, Name: "caller"}
	e.must(e.WaitPodReady(e.ctx, p, readyTimeout))
	return p
}

// cniRewritten: another plugin's installer writes the node's configuration anew, and the entry comes back.
func (e *env) cniRewritten(n cniNode, original []byte) {
	e.Helper()
	e.must(os.WriteFile(filepath.Join(n.confDir, "10-mizzen.conflist"), original, 0o644))
	n.entry(e, true)
}

// cniAway: while the plugin's process is away its entry is, too. Pods without a sidecar start; one with a sidecar waits in it
// with a reason, and goes on when the process is back.
func (e *env) cniAway(n cniNode) {
	e.Helper()
	nowhere := `{"spec":{"template":{"spec":{"nodeSelector":{"e2e.test/nowhere":"true"}}}}}`
	back := `{"spec":{"template":{"spec":{"nodeSelector":{"e2e.test/nowhere":null}}}}}`
	patch := func(p string) {
		e.Helper()
		_, err := e.AppsV1().DaemonSets(cluster.SystemNamespace).Patch(e.ctx, "mizzen-cni", types.StrategicMergePatchType, []byte(p), metav1.PatchOptions{})
		e.must(err)
	}
	patch(nowhere)
	n.entry(e, false)
	away := newEnv(e.T, true)
	away.server("server", 1)
	bare := newEnv(e.T, false)
	bare.server("bare", 1)
	bare.ready("bare")
	// The kubelet tells nothing of a sidecar whose start it holds but that it has begun.
	var waiting string
	away.eventually(time.Minute, func() (string, error) {
		waiting = away.podWithEvent("Started", "")
		if waiting == "" {
			return "the start of the sidecar", nil
		}
		return "", nil
	})
	pod, err := away.CoreV1().Pods(away.ns).Get(away.ctx, waiting, metav1.GetOptions{})
	e.must(err)
	away.capturedByCNI(pod)
	for _, s := range pod.Status.ContainerStatuses {
		if s.State.Running != nil {
			e.Errorf("container %s runs without the capture rules", s.Name)
		}
	}
	patch(back)
	away.ready("server")
	away.reachable(away.caller(), httpCall)
	// That it was captured in place says that nobody had captured it before.
	away.eventually(30*time.Second, func() (string, error) {
		if away.podWithEvent("CaptureRepaired", waiting) == "" {
			return "the event about the repair of " + waiting, nil
		}
		return "", nil
	})
	n.entry(e, true)
}

// podWithEvent gives a pod that has an event with the reason: any one, or that of the name.
func (e *env) podWithEvent(reason, name string) string {
	e.Helper()
	list, err := e.EventsV1().Events(e.ns).List(e.ctx, metav1.ListOptions{})
	e.must(err)
	for _, event := range list.Items {
		if event.Reason == reason && event.Regarding.Kind == "Pod" && (name == "" || event.Regarding.Name == name) {
			return event.Regarding.Name
		}
	}
	return ""
}
