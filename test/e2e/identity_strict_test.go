package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// modeTime is how soon a changed mode holds everywhere.
const modeTime = 20 * time.Second

// annotate sets annotations of the test's namespace; an empty value takes one away.
func (e *env) annotate(key, value string) {
	e.Helper()
	e.must(e.patchAnnotation(key, value))
}

func (e *env) patchAnnotation(key, value string) error {
	_, err := e.CoreV1().Namespaces().Patch(e.ctx, e.ns, types.MergePatchType, annotationPatch(key, value), metav1.PatchOptions{})
	return err
}

func annotationPatch(key, value string) []byte {
	quoted := fmt.Sprintf("%q", value)
	if value == "" {
		quoted = "null"
	}
	return fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%s}}}`, key, quoted)
}

// plainCalls reach the pods of calledWithIdentity from a pod that has no sidecar, by Service and by address.
func plainCalls(e *env, c *called) []api.Call {
	server := "server." + e.ns
	calls := []api.Call{
		{Kind: api.HTTP, Target: fmt.Sprintf("http://%s:%d/", server, httpPort)},
		{Kind: api.GRPC, Target: fmt.Sprintf("%s:%d", server, grpcPort)},
		{Kind: api.MySQL, Target: fmt.Sprintf("%s:%d", server, mysqlPort)},
	}
	for _, w := range c.workloads {
		calls = append(calls, api.Call{Kind: api.HTTP, Target: "http://" + w.address(api.ControlPort) + "/healthz"})
	}
	return calls
}

// answers waits until every call from a pod is answered, or none is.
func (e *env) answers(from cluster.Pod, calls []api.Call, want bool) time.Duration {
	e.Helper()
	start := time.Now()
	for _, c := range calls {
		e.eventually(modeTime, func() (string, error) {
			if a := e.call(from, c); a.OK != want {
				return fmt.Sprintf("%s %s: answered %t, want %t: %s", c.Kind, c.Target, a.OK, want, a.Error), nil
			}
			return "", nil
		})
	}
	return time.Since(start)
}

// A namespace goes from permissive to strict and back, twice, under the load of callers in the mesh, none of whose
// calls fails. While it is strict, whoever has no identity is refused; before and after he is served.
func TestStrict(t *testing.T) {
	besideRotation(t)
	e, outside := newEnv(t, true), newEnv(t, false)
	c := e.calledWithIdentity()
	stranger := outside.client()
	plain := plainCalls(e, c)
	e.answers(stranger, plain, true)
	var slowest time.Duration
	for range 2 {
		e.annotate(config.AnnotationMTLS, string(config.Strict))
		slowest = max(slowest, e.answers(stranger, plain, false))
		e.annotate(config.AnnotationMTLS, "")
		slowest = max(slowest, e.answers(stranger, plain, true))
	}
	figure(t, "slowest change of the mode, by what strangers get", slowest.Round(time.Millisecond).String(), "≤ "+modeTime.String())
	c.noFailures(e, "while the mode changed")
}

// Annotations of a pod win over its namespace, and those of a port over the pod.
func TestStrictPods(t *testing.T) {
	besideRotation(t)
	e, outside := newEnv(t, true), newEnv(t, false)
	stranger := outside.client()
	annotations := map[string]map[string]string{
		"strict-pod":      {config.AnnotationMTLS: "strict"},
		"strict-port":     {config.AnnotationMTLSPorts: fmt.Sprintf("%d=strict", httpPort)},
		"permissive-port": {config.AnnotationMTLS: "strict", config.AnnotationMTLSPorts: fmt.Sprintf("%d=permissive", httpPort)},
		"permissive-pod":  {config.AnnotationMTLS: "permissive"},
	}
	// What a stranger is served, by the namespace's mode, HTTP and gRPC.
	served := map[config.MTLSMode]map[string][2]bool{
		config.Permissive: {"strict-pod": {}, "strict-port": {false, true}, "permissive-port": {true, false}, "permissive-pod": {true, true}},
		config.Strict:     {"strict-pod": {}, "strict-port": {}, "permissive-port": {true, false}, "permissive-pod": {true, true}},
	}
	// In a namespace of its own: a strict pod would not let the test in either.
	client := newEnv(t, true).client()
	for name, a := range annotations {
		p := e.pod(name, serverPod())
		p.Annotations = a
		e.create(p)
		e.service(name, name, port("http", httpPort), port("grpc", grpcPort))
	}
	for _, mode := range config.MTLSModes {
		want := served[mode]
		e.annotate(config.AnnotationMTLS, string(mode))
		for name := range annotations {
			e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: name}, readyTimeout))
			calls := []api.Call{
				{Kind: api.HTTP, Target: fmt.Sprintf("http://%s.%s:%d/", name, e.ns, httpPort)},
				{Kind: api.GRPC, Target: fmt.Sprintf("%s.%s:%d", name, e.ns, grpcPort)},
			}
			for i, c := range calls {
				e.answers(stranger, []api.Call{c}, want[name][i])
				e.reachable(client, c)
			}
		}
	}
}

// A mode that nobody knows is refused where it is written.
func TestBadMode(t *testing.T) {
	besideRotation(t)
	e := newEnv(t, false)
	idle := e.pod("idle", serverPod())
	idle.Spec.NodeSelector = map[string]string{runLabel: "nowhere"}
	idle.Annotations = map[string]string{config.AnnotationMTLSPorts: "bad from the beginning, where no webhook looks"}
	e.create(idle)
	on := map[string]func(key, value string) error{
		"namespace " + e.ns: e.patchAnnotation,
		"pod idle": func(key, value string) error {
			_, err := e.CoreV1().Pods(e.ns).Patch(e.ctx, "idle", types.MergePatchType, annotationPatch(key, value), metav1.PatchOptions{})
			return err
		},
	}
	for _, c := range []struct{ object, key, value, want string }{
		{"pod idle", "other", "what is bad already does not hinder", ""},
		{"pod idle", config.AnnotationMTLSPorts, "8080=strict", ""},
		{"pod idle", config.AnnotationMTLSPorts, "65535=permissive, 08080=strict", ""},
		{"pod idle", config.AnnotationMTLSPorts, "8080=strict,9090", "want PORT=MODE"},
		{"pod idle", config.AnnotationMTLSPorts, "8080=STRICT", "want PORT=MODE"},
		{"pod idle", config.AnnotationMTLSPorts, "0=strict", "from 1 to 65535"},
		{"pod idle", config.AnnotationMTLSPorts, "65536=strict", "from 1 to 65535"},
		{"pod idle", config.AnnotationMTLSPorts, "80=strict,080=permissive", "each port once"},
		{"pod idle", config.AnnotationMTLSPorts, " ", "want PORT=MODE"},
		{"pod idle", config.AnnotationMTLS, "strict", ""},
		{"pod idle", config.AnnotationMTLS, "strcit", "permissive or strict"},
		{"namespace " + e.ns, config.AnnotationMTLS, "sometimes", "permissive or strict"},
		{"namespace " + e.ns, config.AnnotationMTLS, "permissive", ""},
	} {
		err := on[c.object](c.key, c.value)
		switch {
		case c.want == "" && err != nil:
			t.Errorf("%s with %s: %q: %v", c.object, c.key, c.value, err)
		case c.want == "":
		case err == nil:
			t.Errorf("%s with %s: %q: taken", c.object, c.key, c.value)
		case !strings.Contains(err.Error(), fmt.Sprintf("%s: annotation %s: %q: ", c.object, c.key, c.value)) || !strings.Contains(err.Error(), c.want):
			t.Errorf("%s with %s: %q: %v, want these and %q", c.object, c.key, c.value, err, c.want)
		}
	}
}

// The kubelet's probes, of every kind, reach the application of a strict pod.
func TestStrictProbes(t *testing.T) {
	besideRotation(t)
	e := newEnv(t, true)
	e.annotate(config.AnnotationMTLS, string(config.Strict))
	e.probed()
}
