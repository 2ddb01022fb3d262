// Package chart tests the Helm chart with the real helm: what it renders, what it refuses, and that
// values, schema, README and the mesh configuration are in step.
package chart

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"

	"github.com/google/go-cmp/cmp"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

const chartDir = "../../charts/mizzen"

// helm finds the binary that `make tools` builds, or the one that $MIZZEN_HELM names. Without one the
// test is skipped, but never in CI, where that would hide a broken chart.
func helm(t *testing.T) string {
	t.Helper()
	path := os.Getenv("MIZZEN_HELM")
	must := path != "" || os.Getenv("CI") == "true"
	if path == "" {
		path = "../../.build/tools/helm"
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(abs); err == nil {
		return abs
	}
	if must {
		t.Fatalf("no helm at %s; `make tools` builds it", abs)
	}
	t.Skipf("no helm at %s; `make tools` builds it", abs)
	return ""
}

// runHelm gives stdout, and stderr in the error's place.
func runHelm(t *testing.T, args ...string) (stdout []byte, stderr string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), helm(t), args...)
	// Nothing of the machine's own Helm may play a part.
	cmd.Env = []string{"HOME=" + t.TempDir(), "PATH=" + os.Getenv("PATH")}
	var out, errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errOut
	err := cmd.Run()
	return out.Bytes(), errOut.String(), err == nil
}

func render(t *testing.T, args ...string) []byte {
	t.Helper()
	out, stderr, ok := runHelm(t, append([]string{"template", "mizzen", chartDir, "-n", "mizzen-system"}, args...)...)
	if !ok {
		t.Fatal(stderr)
	}
	return out
}

func TestRendering(t *testing.T) {
	helm(t)
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		c.Read(t, "values.yaml")
		c.Check(t, "out.yaml", withoutCRDs(render(t, "-f", filepath.Join(c.Dir, "values.yaml"))))
	})
}

// withoutCRDs leaves out what is the same whatever the values are: see TestCRDs.
func withoutCRDs(rendered []byte) []byte {
	docs := strings.Split(string(rendered), "\n---\n")
	docs = slices.DeleteFunc(docs, func(doc string) bool { return strings.Contains(doc, "\nkind: CustomResourceDefinition\n") })
	return []byte(strings.Join(docs, "\n---\n"))
}

// The CRDs are those that are generated, with the labels of all that the chart installs.
func TestCRDs(t *testing.T) {
	type crd struct {
		Kind     string
		Metadata struct {
			Name                string
			Labels, Annotations map[string]string
		}
		Spec any
	}
	rendered := map[string]crd{}
	for _, doc := range strings.Split(string(render(t)), "\n---\n") {
		var o crd
		if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
			t.Fatal(err)
		}
		if o.Kind == "CustomResourceDefinition" {
			rendered[o.Metadata.Name] = o
		}
	}
	files, err := filepath.Glob(filepath.Join(chartDir, "crds-generated", "*.yaml"))
	if err != nil || len(files) == 0 || len(files) != len(rendered) {
		t.Fatalf("%d files, %d CRDs, %v", len(files), len(rendered), err)
	}
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var want crd
		if err := yaml.Unmarshal(b, &want); err != nil {
			t.Fatal(err)
		}
		got := rendered[want.Metadata.Name]
		if got.Metadata.Labels["app.kubernetes.io/part-of"] != "mizzen" {
			t.Errorf("%s: labels %v", want.Metadata.Name, got.Metadata.Labels)
		}
		if got.Metadata.Annotations["helm.sh/resource-policy"] != "keep" {
			t.Errorf("%s: annotations %v; Helm would remove it with all its objects", want.Metadata.Name, got.Metadata.Annotations)
		}
		delete(got.Metadata.Annotations, "helm.sh/resource-policy")
		got.Metadata.Labels = nil
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("-generated +rendered\n%s", diff)
		}
	}
}

func TestLint(t *testing.T) {
	if out, stderr, ok := runHelm(t, "lint", "--strict", chartDir); !ok {
		t.Errorf("%s%s", out, stderr)
	}
}

func TestRefusals(t *testing.T) {
	tests := []struct {
		name, set string
		want      []string
	}{
		{"unknown value", "controller.replica=3", []string{"/controller", "replica"}},
		{"unknown top-level value", "sidecar.image=x", []string{"sidecar"}},
		{"unknown mesh field", "mesh.traffic.retries=3", []string{"/mesh/traffic", "retries"}},
		{"text for a number", "controller.replicas=two", []string{"/controller/replicas", "integer"}},
		{"out of range", "mesh.traffic.retry.budgetPercent=101", []string{"/mesh/traffic/retry/budgetPercent", "100"}},
		{"too many", "mesh.onDemand.wholeMesh=50001", []string{"/mesh/onDemand/wholeMesh", "50,000"}},
		{"no scope", "mesh.sidecar.configScope=mesh", []string{"/mesh/sidecar/configScope", "demand"}},
		{"not one of", "mesh.sidecar.logLevel=loud", []string{"/mesh/sidecar/logLevel", "warning"}},
		{"text for a truth", "mesh.identity.checkSourceAddress=maybe", []string{"/mesh/identity/checkSourceAddress", "boolean"}},
		{"bad trust domain", "mesh.trustDomain=spiffe://a", []string{"/mesh/trustDomain"}},
		{"bad duration", "mesh.sidecar.drainDelay=5", []string{"/mesh/sidecar/drainDelay"}},
		{"bad port", "mesh.sidecar.excludeInboundPorts={70000}", []string{"/mesh/sidecar/excludeInboundPorts/0", "65,535"}},
		{"bad CIDR", "mesh.serviceCIDRs={10.0.0.0}", []string{"/mesh/serviceCIDRs/0"}},
		{"image is the release's to set", "mesh.sidecar.image=x", []string{"/mesh/sidecar", "image"}},
		{"no peer", "networkPolicy.statusFrom={everybody}", []string{"/networkPolicy/statusFrom/0", "object"}},
		{"tag in the repository's place", "proxy.image.version=x", []string{"/proxy/image", "version"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, stderr, ok := runHelm(t, "template", "mizzen", chartDir, "--set", tt.set)
			if ok {
				t.Fatal("accepted")
			}
			for _, want := range tt.want {
				if !strings.Contains(stderr, want) {
					t.Errorf("message does not say %q:\n%s", want, stderr)
				}
			}
		})
	}
	if _, stderr, ok := runHelm(t, "template", "mizzen", chartDir, "--kube-version", "1.29.9"); ok || !strings.Contains(stderr, "1.30") {
		t.Errorf("Kubernetes 1.29 is not refused: %s", stderr)
	}
}

// The mesh configuration of the default values is the default configuration, and each case's one
// passes the control plane's own strict check.
func TestMeshConfig(t *testing.T) {
	helm(t)
	got := meshConfig(t, render(t))
	want := config.Default()
	want.Sidecar.Image = "mizzen/proxy:" + version.Version
	want.Sidecar.ImagePullPolicy = "IfNotPresent"
	if diff := cmp.Diff(asYAML(t, want), asYAML(t, got)); diff != "" {
		t.Errorf("values.yaml and package config have different defaults (-config +values):\n%s", diff)
	}
	golden.Run(t, "testdata", func(t *testing.T, c *golden.Case) {
		c.Read(t, "values.yaml")
		if err := meshConfig(t, c.Read(t, "out.yaml")).ValidateForInjection(); err != nil {
			t.Error(err)
		}
	})
}

func meshConfig(t *testing.T, rendered []byte) *config.Mesh {
	t.Helper()
	for _, doc := range strings.Split(string(rendered), "\n---\n") {
		var object struct {
			Kind string
			Data map[string]string
		}
		if err := yaml.Unmarshal([]byte(doc), &object); err != nil {
			t.Fatal(err)
		}
		if object.Kind == "ConfigMap" {
			mesh, err := config.Parse([]byte(object.Data["mesh.yaml"]))
			if err != nil {
				t.Fatal(err)
			}
			return mesh
		}
	}
	t.Fatal("no ConfigMap")
	return nil
}

// asYAML makes an empty list and none the same, as they are to the reader.
func asYAML(t *testing.T, m *config.Mesh) string {
	t.Helper()
	b, err := yaml.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestVersionsAreInStep(t *testing.T) {
	b, err := os.ReadFile(filepath.Join(chartDir, "Chart.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var chart struct{ Version, AppVersion string }
	if err := yaml.Unmarshal(b, &chart); err != nil {
		t.Fatal(err)
	}
	if chart.Version != version.Version || chart.AppVersion != version.Version {
		t.Errorf("chart version %q, appVersion %q, code %q", chart.Version, chart.AppVersion, version.Version)
	}
}

// A revision installs nothing that the main control plane has installed already, so that both can be there.
func TestRevisionBesideTheMainOne(t *testing.T) {
	type object struct {
		APIVersion, Kind string
		Metadata         struct{ Name, Namespace string }
	}
	objects := func(rendered []byte) map[object]bool {
		out := map[object]bool{}
		for _, doc := range strings.Split(string(rendered), "\n---\n") {
			var o object
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				t.Fatal(err)
			}
			if o.Kind != "" {
				out[o] = true
			}
		}
		return out
	}
	everything := []string{"-f", "testdata/everything/values.yaml"}
	main, revision := objects(render(t, everything...)), objects(render(t, append(everything, "--set", "revision=canary")...))
	if len(revision) < 10 {
		t.Errorf("%d objects", len(revision))
	}
	for o := range revision {
		if main[o] {
			t.Errorf("both have %+v", o)
		}
	}
}
