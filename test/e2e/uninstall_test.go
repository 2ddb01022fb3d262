package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Scenario 16, second half, and the last test of all: helm uninstall leaves nothing behind, and meshed pods
// that run go on with what they have.
func testUninstall(t *testing.T) {
	e := newEnv(t, true)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 100})
	e.must(e.polled(10*time.Second, e.executed("server", 100)))
	e.must(e.UninstallMizzen(e.ctx))
	e.eventually(90*time.Second, func() (string, error) {
		left, err := leftovers(e.ctx)
		return strings.Join(left, "\n  "), err
	})
	after := running.result().Calls
	e.eventually(30*time.Second, func() (string, error) {
		if n := running.result().Calls - after; n < 500 {
			return fmt.Sprintf("%d of 500 calls after the uninstallation", n), nil
		}
		return "", nil
	})
	e.noFailures("calls during and after helm uninstall", running.stop(), 600)
	// The namespace keeps its label, and pods are created again, without a sidecar.
	e.create(e.pod("after", serverPod()))
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "after"}, readyTimeout))
}

// ours says whether an object came from Mizzen: by its name, or by the namespace of the control plane.
// A node may be named after the mesh, as the embedded cluster's is, and then its Lease and CSINode are too.
func ours(obj metav1.Object, nodes map[string]bool) bool {
	if nodes[obj.GetName()] {
		return false
	}
	if strings.Contains(obj.GetName(), "mizzen") {
		return true
	}
	// Kubernetes itself puts these into every namespace.
	byKubernetes := map[string]bool{"kube-root-ca.crt": true, "default": true}
	return obj.GetNamespace() == cluster.SystemNamespace && !byKubernetes[obj.GetName()]
}

// leftovers lists every object of the cluster that is ours, of every kind that can be listed. Namespaces stay,
// as Helm does not own them, and events are history.
func leftovers(ctx context.Context) ([]string, error) {
	lists, err := mesh.Discovery().ServerPreferredResources()
	if err != nil && !discovery.IsGroupDiscoveryFailedError(err) {
		return nil, err
	}
	nodeList, err := mesh.CoreV1().Nodes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	nodes := map[string]bool{}
	for _, n := range nodeList.Items {
		nodes[n.Name] = true
	}
	var left []string
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		if err != nil {
			return nil, err
		}
		for _, r := range list.APIResources {
			if r.Name == "events" || r.Name == "namespaces" || !strings.Contains(fmt.Sprint(r.Verbs), "list") {
				continue
			}
			objects, err := mesh.Dynamic.Resource(gv.WithResource(r.Name)).List(ctx, metav1.ListOptions{})
			if apierrors.IsNotFound(err) || apierrors.IsMethodNotSupported(err) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("list %s: %w", r.Name, err)
			}
			for _, obj := range objects.Items {
				if ours(&obj, nodes) {
					left = append(left, fmt.Sprintf("%s %s/%s", r.Kind, obj.GetNamespace(), obj.GetName()))
				}
			}
		}
	}
	return left, nil
}
