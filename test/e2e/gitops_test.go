package e2e

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// The chart's manifests are installed with kubectl, into a cluster that has nothing but the CA of another, from a
// backup. To apply them again changes nothing, whether the client or the server merges, and another field
// manager that wants the same does not conflict: the control plane runs all the while, and writes what is its own.
func TestGitOps(t *testing.T) {
	alone(t)
	if withoutMesh {
		t.Skip("the chart is the mesh's")
	}
	e := newEnv(t, true)
	_, root := e.caSecret()
	backup := e.backUpCA()
	e.uninstall()
	e.forget()
	e.leaves()
	_, err := e.Kubectl(e.ctx, backup, "apply", "-f", "-")
	e.must(err)

	manifests, err := e.RenderMizzen(e.ctx)
	e.must(err)
	kubectl := func(args ...string) string {
		t.Helper()
		out, err := e.Kubectl(e.ctx, manifests, append(args, "-f", "-")...)
		e.must(err)
		return out
	}
	kubectl("apply")
	t.Cleanup(func() {
		if _, err := mesh.Kubectl(context.Background(), manifests, "delete", "--ignore-not-found", "-f", "-"); err != nil {
			t.Error(err)
		}
	})
	for _, name := range e.controlPlane() {
		e.must(e.WaitDeployment(e.ctx, cluster.SystemNamespace, name, readyTimeout))
	}
	e.create(e.pod("first", serverPod()))
	pod := cluster.Pod{Namespace: e.ns, Name: "first"}
	e.must(e.WaitPodReady(e.ctx, pod, readyTimeout))
	e.hasSidecar(pod)
	if _, now := e.caSecret(); !now.Equal(root) {
		t.Errorf("the mesh has another CA than the one that was restored: %s, want %s", now.Subject, root.Subject)
	}

	before := e.applied(manifests)
	out := kubectl("apply")
	for line := range strings.Lines(out) {
		// kubectl sends the selector of any PodDisruptionBudget again (its patch strategy is "replace") and calls that a
		// change. That it is none is seen below.
		if !strings.HasSuffix(strings.TrimSpace(line), " unchanged") && !strings.HasPrefix(line, "poddisruptionbudget.policy/") {
			t.Errorf("kubectl apply again: %s", line)
		}
	}
	if diff := cmp.Diff(before, e.applied(manifests)); diff != "" {
		t.Errorf("kubectl apply again changes objects (-before +after):\n%s", diff)
	}
	figure(t, "objects that a second kubectl apply leaves unchanged", fmt.Sprint(len(before)), "all")

	kubectl("apply", "--server-side", "--field-manager=another")
	kubectl("apply", "--server-side", "--field-manager=yet-another")
	if diff := cmp.Diff(before, e.applied(manifests)); diff != "" {
		t.Errorf("kubectl apply --server-side of what is there changes objects (-before +after):\n%s", diff)
	}
	figure(t, "the same of kubectl apply --server-side, by two more field managers", fmt.Sprint(len(before)), "all")
}

// onlyHere are the lines of an object's metadata that mean nothing in another cluster.
var onlyHere = regexp.MustCompile(`(?m)^  (uid|resourceVersion|creationTimestamp):.*\n`)

// backUpCA gives the CA's Secret as docs/operations.md says how to save it.
func (e *env) backUpCA() string {
	e.Helper()
	secret, err := e.Kubectl(e.ctx, "", "get", "secret", caSecretName, "-n", cluster.SystemNamespace, "-o", "yaml")
	e.must(err)
	return onlyHere.ReplaceAllString(secret, "")
}

// forget removes what an uninstallation keeps.
func (e *env) forget() {
	e.Helper()
	for _, args := range [][]string{
		{"delete", "secret,configmap", caSecretName, "-n", cluster.SystemNamespace},
		{"delete", "customresourcedefinition", policies.GroupResource().String()},
	} {
		_, err := e.Kubectl(e.ctx, "", args...)
		e.must(err)
	}
}

// applied reads the objects of manifests without what changes by itself: statuses, versions, and who manages what.
func (e *env) applied(manifests string) map[string]any {
	e.Helper()
	out, err := e.Kubectl(e.ctx, manifests, "get", "-o", "json", "-f", "-")
	e.must(err)
	var list unstructured.UnstructuredList
	e.must(list.UnmarshalJSON([]byte(out)))
	objects := map[string]any{}
	for _, o := range list.Items {
		delete(o.Object, "status")
		o.SetManagedFields(nil)
		o.SetResourceVersion("")
		// kubectl's own, which it takes away again when it applies on the server's side. That counts as another generation of a
		// Deployment.
		o.SetGeneration(0)
		annotations := o.GetAnnotations()
		delete(annotations, corev1.LastAppliedConfigAnnotation)
		if o.SetAnnotations(annotations); len(annotations) == 0 {
			o.SetAnnotations(nil)
		}
		objects[o.GetKind()+" "+o.GetName()] = o.Object
	}
	return objects
}
