package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// revisionName is the revision of these tests, and its release.
const (
	revisionName  = "canary"
	canaryRelease = "mizzen-canary"
)

// A second control plane stands beside the main one, and a namespace goes from one to the other and back by its label, strict and
// under load: no call fails, no pod that is created meanwhile is refused or without a sidecar, and nothing of it stays.
func TestRevision(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.annotate(config.AnnotationMTLSPorts, fmt.Sprintf("%d=strict,%d=strict", httpPort, grpcPort)) // the control port is open to the test
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall, httpCall)
	e.installRevision(cluster.Chart)
	running := e.loads(client)
	created := e.createPods(2)
	for _, revision := range []string{revisionName, "", revisionName} {
		e.revise(revision)
		e.restartServers(revision)
		e.servedBy(revision)
	}
	// The label outlives the revision: pods are injected by the main control plane then.
	e.must(e.UninstallRelease(e.ctx, canaryRelease))
	e.restartServers("")
	e.servedBy("")
	created("pods created while a namespace changes its control plane", 20)
	for _, l := range running {
		l.noFailures("calls while a namespace changes its control plane three times")
	}
	e.eventually(90*time.Second, func() (string, error) { // garbage is collected some time later
		left, err := leftovers(e.ctx)
		left = slices.DeleteFunc(left, func(object string) bool { return !strings.Contains(object, "-"+revisionName) })
		return strings.Join(left, ", "), err
	})
}

// installRevision installs a chart as a revision, until the test ends.
func (e *env) installRevision(chart string) {
	e.Helper()
	e.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), readyTimeout)
		defer cancel()
		if err := mesh.UninstallRelease(ctx, canaryRelease); err != nil {
			e.Error(err)
		}
	})
	e.must(e.InstallChart(e.ctx, canaryRelease, chart, "revision="+revisionName, "controller.replicas=1"))
}

// revise gives the namespace a revision; empty is the main control plane.
func (e *env) revise(revision string) {
	e.Helper()
	value := "null"
	if revision != "" {
		value = fmt.Sprintf("%q", revision)
	}
	patch := fmt.Sprintf(`{"metadata":{"labels":{%q:%s}}}`, config.LabelRevision, value)
	_, err := e.CoreV1().Namespaces().Patch(e.ctx, e.ns, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	e.must(err)
}

// restartServers makes the servers' pods anew, and checks which control plane has injected them.
func (e *env) restartServers(revision string) {
	e.Helper()
	e.must(e.Restart(e.ctx, e.ns, "server"))
	e.ready("server")
	e.noTerminating("app=server")
	pods, err := e.Pods(e.ctx, e.ns, "app=server")
	e.must(err)
	for _, p := range pods {
		if !sidecar.Has(&p) || sidecar.Revision(&p.Spec) != revision {
			e.Errorf("pod %s: injected by revision %q, want %q", p.Name, sidecar.Revision(&p.Spec), revision)
		}
	}
}

// servedBy checks that the servers' sidecars have their configuration from a control plane.
func (e *env) servedBy(revision string) {
	e.Helper()
	want := map[string]bool{}
	for _, p := range e.podsOf("server") {
		want[p.Namespace+"/"+p.Name] = true
	}
	replicas, err := e.Pods(e.ctx, cluster.SystemNamespace, "app.kubernetes.io/name="+config.ControllerService)
	e.must(err)
	e.eventually(readyTimeout, func() (string, error) {
		left := len(want)
		for _, p := range replicas {
			if p.Labels[config.LabelRevision] != revision || !cluster.Ready(&p) {
				continue
			}
			body, err := e.Debug(e.ctx, cluster.Pod{Namespace: p.Namespace, Name: p.Name}, config.ControllerHTTPPort, "debug/proxies")
			if err != nil {
				return "", err
			}
			for proxy := range want {
				if strings.Contains(string(body), `"`+proxy+`"`) {
					left--
				}
			}
		}
		if left > 0 {
			return fmt.Sprintf("revision %q serves %d of %d sidecars", revision, len(want)-left, len(want)), nil
		}
		return "", nil
	})
}

// loads start calls of two kinds.
func (e *env) loads(from cluster.Pod) []*load {
	e.Helper()
	return []*load{
		e.startLoad(from, api.Load{Call: grpcCall, Rate: 50}),
		e.startLoad(from, api.Load{Call: httpCall, Rate: 50}),
	}
}
