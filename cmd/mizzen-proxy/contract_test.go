package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// The commands take what the injector says to them, down to the values.
func TestCommandsTakeWhatIsInjected(t *testing.T) {
	files, err := filepath.Glob("../../webhook/testdata/*/out.yaml")
	if err != nil {
		t.Fatal(err)
	}
	captures, proxies := 0, 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		pod := &corev1.Pod{}
		if yaml.Unmarshal(text, pod) != nil || !sidecar.Has(pod) {
			continue
		}
		if c := sidecar.Capture(&pod.Spec); c != nil {
			captures++
			args := append(expand(c), "--dry-run")
			var stderr bytes.Buffer
			if code := execute(args, &bytes.Buffer{}, &stderr); code != 0 {
				t.Errorf("%s: %q: exit code %d, %s", file, args, code, &stderr)
			}
		}
		c := sidecar.Proxy(&pod.Spec)
		proxies++
		s := agent.Defaults()
		cmd := runCommandFor(&s)
		if err := cmd.ParseFlags(c.Args[1:]); err != nil || c.Args[0] != cmd.Name() || cmd.Flags().NArg() != 0 {
			t.Errorf("%s: %q: %v", file, c.Args, err)
		}
		if err := s.ReadEnv(func(name string) string { return value(c, name) }); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		if _, identity := sidecar.TrustBundle(&pod.Spec); (s.IdentityAddress != "") != identity || s.CaptureByCNI != sidecar.CapturedByCNI(pod) {
			t.Errorf("%s: %+v, identity %v", file, s.Run, identity)
		}
	}
	if captures == 0 || proxies <= captures {
		t.Errorf("%d containers that capture and %d proxies among the goldens, want some, and pods that their node captures", captures, proxies)
	}
}

// expand replaces variables as the kubelet does it.
func expand(c *corev1.Container) []string {
	var out []string
	for _, arg := range c.Args {
		for _, e := range c.Env {
			arg = strings.ReplaceAll(arg, "$("+e.Name+")", value(c, e.Name))
		}
		out = append(out, arg)
	}
	return out
}

// value is that of a container's variable in some pod.
func value(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		switch {
		case e.Name != name:
		case e.ValueFrom == nil:
			return e.Value
		case strings.HasSuffix(e.ValueFrom.FieldRef.FieldPath, "IPs"):
			return "10.0.0.1,fd00::1"
		default:
			return "of-the-pod"
		}
	}
	return ""
}
