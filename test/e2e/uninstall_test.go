package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// caRoots is the key of the CA's Secret and ConfigMap that has all roots.
const caRoots = "ca.crt"

// kept is what an uninstallation leaves: the mesh's CA, and the CRD, for the policies that users have written.
var kept = []string{
	"APIService /" + policies.Version + "." + policies.Group, // the API server's own, for the CRD
	"ConfigMap " + cluster.SystemNamespace + "/" + caSecretName,
	"CustomResourceDefinition /" + policies.GroupResource().String(),
	"Secret " + cluster.SystemNamespace + "/" + caSecretName,
}

// Scenario 16, second half: helm uninstall leaves what a later installation goes on with, and nothing where that is
// not wanted. Meshed pods that run go on with what they have, and the next installation has their root.
func TestUninstall(t *testing.T) {
	alone(t)
	e := newEnv(t, true)
	e.server("server", 3)
	client := e.client()
	e.ready("server")
	e.reachable(client, grpcCall)
	running := e.startLoad(client, api.Load{Call: grpcCall, Rate: 100})
	e.must(e.polled(10*time.Second, e.executed(100)))
	e.policy("written", fmt.Sprintf("  action: Allow\n  rules:\n  - from: [{namespace: %s}]\n", e.ns))
	secret, _ := e.caSecret()
	e.uninstall()
	e.leaves(kept...)

	e.install("keep.ca=false", "keep.crds=false")
	again, _ := e.caSecret()
	if !strings.Contains(string(again.Data[caRoots]), strings.TrimSpace(string(secret.Data[caRoots]))) {
		t.Errorf("the next installation does not trust the root that sidecars have:\n%s\nwas\n%s", again.Data[caRoots], secret.Data[caRoots])
	}
	if _, err := e.Dynamic.Resource(policies).Namespace(e.ns).Get(e.ctx, "written", metav1.GetOptions{}); err != nil {
		t.Errorf("a policy that was written before: %v", err)
	}
	// What takes no plain text is called by a sidecar of the first installation with a certificate of its root.
	strict := e.pod("later", serverPod())
	strict.Annotations = map[string]string{config.AnnotationMTLS: string(config.Strict)}
	e.create(strict)
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "later"}, readyTimeout))
	e.service("later", "later", port("grpc", grpcPort))
	later := grpcCall
	later.Target = strings.Replace(later.Target, "server", "later", 1)
	e.reachable(client, later)

	e.uninstall()
	e.leaves()
	after := running.result().Calls
	e.eventually(30*time.Second, func() (string, error) {
		if n := running.result().Calls - after; n < 500 {
			return fmt.Sprintf("%d of 500 calls after the uninstallation", n), nil
		}
		return "", nil
	})
	running.noFailures("calls during and after helm uninstall")
	// The namespace keeps its label, and pods are created again, without a sidecar.
	e.create(e.pod("after", serverPod()))
	e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "after"}, readyTimeout))
}

// leaves waits until these objects of ours are left, and no others.
func (e *env) leaves(want ...string) {
	e.Helper()
	e.eventually(90*time.Second, func() (string, error) {
		left, err := leftovers(e.ctx)
		if slices.Sort(left); err != nil || slices.Equal(left, want) {
			return "", err
		}
		return fmt.Sprintf("left\n  %s\nwant\n  %s", strings.Join(left, "\n  "), strings.Join(want, "\n  ")), nil
	})
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
