package webhook

import (
	"encoding/json"
	"strings"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// checkPatch applies the patch with another library, as the API server does, and expects out.
func checkPatch(t *testing.T, in, out *corev1.Pod) {
	t.Helper()
	got := &corev1.Pod{}
	if err := json.Unmarshal(applied(t, mustJSON(t, in), in, out), got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(mustJSON(t, out)), string(mustJSON(t, got))); diff != "" {
		t.Errorf("-injected +patched:\n%s", diff)
	}
}

// A newer API server's pod may hold fields that this build does not know.
func TestPatchKeepsUnknownFields(t *testing.T) {
	raw := []byte(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "web", "namespace": "shop", "creationTimestamp": null},
		"spec": {"novel": {"a": 1}, "initContainers": [{"name": "migrate", "image": "m", "novel": "in migrate"}], "containers": [
		{"name": "web", "image": "w", "novel": ["in web"], "livenessProbe": {"novel": "in probe", "httpGet": {"port": 80}}}]}}`)
	in := &corev1.Pod{}
	if err := json.Unmarshal(raw, in); err != nil {
		t.Fatal(err)
	}
	out, _, err := Inject(in, Namespace{}, testMesh(), testVersion, nil, testKey)
	if err != nil {
		t.Fatal(err)
	}
	var got struct {
		Spec struct {
			Novel                      map[string]any
			InitContainers, Containers []struct {
				Name          string
				Novel         any
				LivenessProbe map[string]any
			}
		}
	}
	if err := json.Unmarshal(applied(t, raw, in, out), &got); err != nil {
		t.Fatal(err)
	}
	if len(got.Spec.InitContainers) != 3 || got.Spec.InitContainers[2].Novel != "in migrate" || got.Spec.InitContainers[0].Novel != nil {
		t.Errorf("initContainers = %+v", got.Spec.InitContainers)
	}
	web := got.Spec.Containers[0]
	if got.Spec.Novel == nil || web.Novel == nil || web.LivenessProbe["novel"] != "in probe" || web.LivenessProbe["httpGet"].(map[string]any)["port"] != 15020.0 {
		t.Errorf("novel = %v, web = %+v", got.Spec.Novel, web)
	}
}

func TestPatchIsSmall(t *testing.T) {
	in := readPod(t, []byte("metadata: {name: web}\nspec: {containers: [{name: web, image: w}]}"))
	out, _, err := Inject(in, Namespace{}, testMesh(), testVersion, nil, testKey)
	if err != nil {
		t.Fatal(err)
	}
	raw := mustJSON(t, in)
	merged, err := Merge(raw, in, out)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := patch(raw, merged)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, op := range operations {
		paths = append(paths, op.Operation+" "+op.Path)
	}
	want := "add /metadata/annotations, add /spec/containers, add /spec/initContainers"
	if got := strings.Join(paths, ", "); got != want {
		t.Errorf("operations: %s\nwant: %s", got, want)
	}
}

func applied(t *testing.T, raw []byte, in, out *corev1.Pod) []byte {
	t.Helper()
	merged, err := Merge(raw, in, out)
	if err != nil {
		t.Fatal(err)
	}
	operations, err := patch(raw, merged)
	if err != nil {
		t.Fatal(err)
	}
	decoded, err := jsonpatch.DecodePatch(mustJSON(t, operations))
	if err != nil {
		t.Fatal(err)
	}
	b, err := decoded.Apply(raw)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustJSON(t *testing.T, v any) []byte {
	t.Helper()
	b, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
