package ctl

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/internal/version"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// run executes mizzenctl in-process.
func run(stdin string, args ...string) (stdout, stderr string, err error) {
	var out, report bytes.Buffer
	cmd := NewCommand()
	cmd.SetArgs(args)
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&out)
	cmd.SetErr(&report)
	err = cmd.Execute()
	return out.String(), report.String(), err
}

// A case has in.yaml, out.txt (stderr), and out.yaml or err.txt.
func TestInjectGolden(t *testing.T) {
	defer func(v string) { version.Version = v }(version.Version)
	version.Version = "0.0.0-test"
	without := filepath.Join(t.TempDir(), "mesh.yaml")
	if err := os.WriteFile(without, []byte("identity: {enabled: false}"), 0o600); err != nil {
		t.Fatal(err)
	}
	golden.Run(t, "testdata/inject", func(t *testing.T, c *golden.Case) {
		in := string(c.Read(t, "in.yaml"))
		out, report, err := run(in, "inject", "-f", "-", "--image", "mizzen/proxy:test", "--mesh-config", without, "--probe-key", "0123456789abcdef")
		c.Check(t, "out.txt", []byte(report))
		if err != nil {
			c.Check(t, "err.txt", []byte(err.Error()+"\n"))
			if out != "" {
				t.Errorf("output in spite of the error:\n%s", out)
			}
			return
		}
		c.Check(t, "out.yaml", []byte(out))
		again, _, err := run(out, "inject", "-f", "-", "--image", "mizzen/proxy:test", "--mesh-config", without)
		if err != nil || again != out {
			t.Errorf("what was injected changes when injected again: %v\n%s", err, again)
		}
		newer, _, err := run(out, "inject", "-f", "-", "--image", "mizzen/proxy:newer", "--mesh-config", without)
		if images := strings.Count(out, "mizzen/proxy:test"); err != nil || strings.Count(newer, "mizzen/proxy:newer") != images || strings.Contains(newer, "mizzen/proxy:test") {
			t.Errorf("a newer mesh leaves the older sidecars: %v\n%s", err, newer)
		}
	})
}

func TestInjectFilesAndDirectories(t *testing.T) {
	dir := t.TempDir()
	files := map[string]string{
		"m/b.yml": "kind: B", "m/a.yaml": "---\nkind: A\n", "m/c.json": `{"kind": "C"}`, "m/readme.md": "no", "m/sub/d.yaml": "kind: D\n",
		"mesh.yaml": "sidecar: {image: from/mesh}\nidentity: {enabled: false}\n", "without.yaml": "identity: {enabled: false}\n", "bad.yaml": "sidecar: {imag: x}\n",
		"identity.yaml": "sidecar: {image: from/mesh}\nidentity: {enabled: true}\n", "roots.pem": testRoots(t),
		"pod.yaml": "apiVersion: v1\nkind: Pod\nmetadata: {name: web}\nspec: {containers: [{name: a, image: a}]}\n",
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	at := func(name string) string { return filepath.Join(dir, name) }

	out, report, err := run("kind: Stdin\n", "inject", "-f", at("m"), "-f", "-", "--image", "i", "--mesh-config", at("without.yaml"))
	if want := "---\nkind: A\n---\nkind: B\n---\n{\"kind\": \"C\"}\n---\nkind: Stdin\n"; err != nil || out != want || report != "no workload found\n" {
		t.Errorf("directory: %v\n%s%s", err, out, report)
	}
	out, _, err = run("", "inject", "-f", at("pod.yaml"), "--mesh-config", at("mesh.yaml"), "-o", at("out.yaml"))
	written, readErr := os.ReadFile(at("out.yaml"))
	if err != nil || readErr != nil || out != "" || strings.Count(string(written), "image: from/mesh") != 2 {
		t.Errorf("output file: %v, %v\n%s", err, readErr, written)
	}
	out, _, err = run("", "inject", "-f", at("pod.yaml"), "--mesh-config", at("mesh.yaml"), "--image", "from/flag")
	if err != nil || strings.Count(out, "image: from/flag") != 2 {
		t.Errorf("--image does not win: %v\n%s", err, out)
	}

	out, _, err = run("", "inject", "-f", at("pod.yaml"), "--mesh-config", at("identity.yaml"), "--trust-bundle", at("roots.pem"))
	for _, want := range []string{"MIZZEN_TRUST_BUNDLE", "BEGIN CERTIFICATE", "--identity-address=mizzen-controller.", "audience: mizzen.dev"} {
		if err != nil || strings.Count(out, want) != 1 {
			t.Errorf("--trust-bundle: want %q once: %v\n%s", want, err, out)
		}
	}

	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no file":                {[]string{"inject"}, `required flag(s) "filename" not set`},
		"guessable probe key":    {[]string{"inject", "-f", at("pod.yaml"), "--image", "i", "--mesh-config", at("without.yaml"), "--probe-key", "secret"}, "--probe-key: want 16 to 128"},
		"no image":               {[]string{"inject", "-f", at("pod.yaml")}, "no sidecar image: pass --image"},
		"bad image":              {[]string{"inject", "-f", at("pod.yaml"), "--image", "a b"}, "--image: sidecar.image"},
		"missing file":           {[]string{"inject", "-f", at("nope"), "--image", "i", "--mesh-config", at("without.yaml")}, at("nope")},
		"empty directory":        {[]string{"inject", "-f", t.TempDir(), "--image", "i", "--mesh-config", at("without.yaml")}, "no *.yaml, *.yml or *.json"},
		"identity without roots": {[]string{"inject", "-f", at("pod.yaml"), "--mesh-config", at("identity.yaml")}, at("identity.yaml") + " has identity.enabled: pass the mesh's roots with --trust-bundle"},
		"roots by default":       {[]string{"inject", "-f", at("pod.yaml"), "--image", "i"}, "without --mesh-config, sidecars have identities (identity.enabled): pass the mesh's roots"},
		"no such roots":          {[]string{"inject", "-f", at("pod.yaml"), "--image", "i", "--trust-bundle", at("nope")}, "--trust-bundle: open " + at("nope")},
		"bad roots":              {[]string{"inject", "-f", at("pod.yaml"), "--image", "i", "--trust-bundle", at("bad.yaml")}, "--trust-bundle: " + at("bad.yaml") + ": trust bundle: cannot be parsed"},
		"bad configuration":      {[]string{"inject", "-f", at("pod.yaml"), "--mesh-config", at("bad.yaml")}, at("bad.yaml") + ": sidecar.imag"},
		"stray argument":         {[]string{"inject", at("pod.yaml")}, "takes only flags"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, _, err := run("", c.args...); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("err = %v, want %q", err, c.want)
			}
		})
	}
}

func testRoots(t *testing.T) string {
	t.Helper()
	root, err := ca.Generate(ca.Options{CommonName: "root", Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return string(root.CertPEM())
}

func TestVersion(t *testing.T) {
	if out, _, err := run("", "version", "--client"); err != nil || !strings.Contains(out, version.Version) {
		t.Errorf("%q, %v", out, err)
	}
}

func FuzzSplitDocuments(f *testing.F) {
	f.Add([]byte("# a\n---\nb\n--- # c\n---"))
	f.Add([]byte("\n---\r\n----\n"))
	f.Fuzz(func(t *testing.T, content []byte) {
		if got := bytes.Join(splitDocuments(content), nil); !bytes.Equal(got, content) {
			t.Errorf("%q became %q", content, got)
		}
	})
}

// Whatever files hold, check and routes answer and do not crash.
func FuzzCheckAndRoutes(f *testing.F) {
	cases, err := filepath.Glob("testdata/*/*/in.yaml")
	if err != nil || len(cases) == 0 {
		f.Fatal(err)
	}
	for _, path := range cases {
		content, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content)
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		r := readObjects([]source{{"in.yaml", content}}, "shop")
		after := newWorld(objects{}.with(r.objects), config.Default())
		for _, found := range newChecker(r.objects, newWorld(objects{}, config.Default()), after, inhabitants{}).check() {
			if found.Line < 1 || found.text() == "" {
				t.Errorf("a finding without a place or a text: %+v", found)
			}
		}
		for key := range after.source {
			view := after.viewOf(key, "", 0)
			if renderService(view, false) == "" {
				t.Error("nothing is said")
			}
			if _, err := view.landing(mesh.Request{Method: "GET", Path: "/"}); err != nil && view.Note == "" {
				t.Error(err)
			}
		}
		asked, err := parseRequest("GET https://shop.example.com/cart", nil)
		if err != nil {
			t.Fatal(err)
		}
		for _, key := range after.gatewaysOf("") {
			view := after.gatewayViewOf(key, 0)
			if renderGateway(view, false) == "" {
				t.Error("nothing is said")
			}
			if found := after.landing(view, asked); view.Note == "" && found.Met == nil && found.Status == 0 && !found.Closed {
				t.Errorf("a request goes nowhere: %+v", found)
			}
		}
	})
}

// install-check repeats what the chart says.
func TestInstallCheckKnowsTheChart(t *testing.T) {
	for file, want := range map[string]string{
		"Chart.yaml":         `kubeVersion: ">=` + oldestKubernetes + "-0\"\n",
		"templates/cni.yaml": "\nkind: DaemonSet\nmetadata:\n  name: " + cniName + "\n",
	} {
		b, err := os.ReadFile(filepath.Join("../../charts/mizzen", file))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(string(b), want) {
			t.Errorf("%s has no %q", file, want)
		}
	}
}
