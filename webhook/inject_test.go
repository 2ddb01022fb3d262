package webhook

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/golden"
)

const (
	testVersion = "0.0.0-test"
	testKey     = "test-key"
)

// A case has in.yaml (a pod in an enabled namespace), if needed mesh.yaml and bundle.pem (a mesh with identity), and either out.yaml or err.txt.
func TestGolden(t *testing.T) {
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		in, mesh := readCase(t, c)
		bundle, _ := c.ReadOptional(t, "bundle.pem")
		decision := Decide(map[string]string{config.LabelInjection: config.InjectionEnabled}, in, config.SystemNamespace)
		if decision.Remove(in) {
			checkRemoved(t, c, in, decision.Reason)
			return
		}
		if !decision.Inject {
			c.Check(t, "out.yaml", []byte("# skipped: "+string(decision.Reason)+"\n"))
			return
		}
		before := in.DeepCopy()
		out, report, err := Inject(in, Namespace{}, mesh, testVersion, bundle, testKey)
		if diff := cmp.Diff(before, in); diff != "" {
			t.Errorf("Inject changed its input:\n%s", diff)
		}
		if err != nil {
			c.Check(t, "err.txt", []byte(strings.ReplaceAll(err.Error(), "; ", ";\n")+"\n"))
			return
		}
		c.Check(t, "out.yaml", render(t, out, report))
		checkStable(t, out, mesh, bundle)
		checkPatch(t, in, out)
	})
}

// checkStable: the API server may call a webhook again for what it has already changed.
func checkStable(t *testing.T, out *corev1.Pod, mesh *config.Mesh, bundle []byte) {
	t.Helper()
	again, report, err := Inject(out, Namespace{}, mesh, "another version", bundle, "another-key")
	if err != nil {
		t.Fatalf("second injection: %v", err)
	}
	if diff := cmp.Diff(out, again); diff != "" || report.Changed {
		t.Errorf("second injection changed the pod (Changed %v):\n%s", report.Changed, diff)
	}
}

func checkRemoved(t *testing.T, c *golden.Case, in *corev1.Pod, reason Reason) {
	t.Helper()
	out, err := Remove(in)
	if err != nil {
		c.Check(t, "err.txt", []byte(strings.ReplaceAll(err.Error(), "; ", ";\n")+"\n"))
		return
	}
	y, err := yaml.Marshal(out)
	if err != nil {
		t.Fatal(err)
	}
	c.Check(t, "out.yaml", append([]byte("# sidecar removed: "+string(reason)+"\n"), y...))
	checkPatch(t, in, out)
}

func readCase(t *testing.T, c *golden.Case) (*corev1.Pod, *config.Mesh) {
	t.Helper()
	mesh := testMesh()
	if b, ok := c.ReadOptional(t, "mesh.yaml"); ok {
		var err error
		if mesh, err = config.Parse(b); err != nil {
			t.Fatal(err)
		}
	}
	return readPod(t, c.Read(t, "in.yaml")), mesh
}

func readPod(t testing.TB, b []byte) *corev1.Pod {
	t.Helper()
	pod := &corev1.Pod{}
	if err := yaml.UnmarshalStrict(b, pod); err != nil {
		t.Fatal(err)
	}
	return pod
}

func testMesh() *config.Mesh {
	mesh := configtest.WithoutIdentity()
	mesh.Sidecar.Image = "mizzen/proxy:test"
	return mesh
}

func render(t *testing.T, pod *corev1.Pod, report Report) []byte {
	t.Helper()
	var b bytes.Buffer
	fmt.Fprintf(&b, "# changed: %v\n", report.Changed)
	if report.MadeAnew {
		fmt.Fprintf(&b, "# in place of another sidecar\n")
	}
	for _, path := range report.Forwarded {
		fmt.Fprintf(&b, "# forwarded: %s\n", path)
	}
	for _, name := range report.Drained {
		fmt.Fprintf(&b, "# drained: %s, %ds\n", name, report.DrainSeconds)
	}
	for _, warning := range report.Warnings {
		fmt.Fprintf(&b, "# warning: %s\n", warning)
	}
	y, err := yaml.Marshal(pod)
	if err != nil {
		t.Fatal(err)
	}
	b.Write(y)
	return b.Bytes()
}

func TestInjectNeedsAnImage(t *testing.T) {
	if _, _, err := Inject(&corev1.Pod{}, Namespace{}, configtest.WithoutIdentity(), testVersion, nil, testKey); err == nil || !strings.Contains(err.Error(), "sidecar.image") {
		t.Errorf("err = %v", err)
	}
}
