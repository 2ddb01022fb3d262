package config

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestSidecarFor(t *testing.T) {
	base := Default().Sidecar
	base.ExcludeInboundPorts = []int32{9999}
	base.Resources.Limits = corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("1Gi")}

	for name, c := range map[string]struct {
		annotations map[string]string
		change      func(*Sidecar)
	}{
		"none":             {nil, func(*Sidecar) {}},
		"others' are left": {map[string]string{"example.com/mizzen.dev": "x", "sub.mizzen.dev/x": "y"}, func(*Sidecar) {}},
		"written by us":    {map[string]string{AnnotationInjected: "1.0"}, func(*Sidecar) {}},
		"every one": {map[string]string{
			AnnotationCPURequest: "10m", AnnotationCPULimit: "1", AnnotationMemoryRequest: "32Mi", AnnotationMemoryLimit: "64Mi",
			AnnotationLogLevel: "debug", AnnotationConcurrency: "0", AnnotationExcludeInboundPorts: " 80, 443 ",
			AnnotationExcludeOutboundPorts: "5432", AnnotationExcludeOutboundCIDRs: "10.0.0.0/8, fd00::/8", AnnotationDrainDelay: "1m",
			AnnotationConfigScope: "namespace", AnnotationLogAnswers: "true",
		}, func(s *Sidecar) {
			s.Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("10m"), "memory": resource.MustParse("32Mi")}
			s.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1"), "memory": resource.MustParse("64Mi")}
			s.LogLevel, s.Concurrency = "debug", new(int32(0))
			s.ExcludeInboundPorts, s.ExcludeOutboundPorts = []int32{80, 443}, []int32{5432}
			s.ExcludeOutboundCIDRs = []string{"10.0.0.0/8", "fd00::/8"}
			s.DrainDelay = &metav1.Duration{Duration: time.Minute}
			s.ConfigScope, s.LogAnswers = ScopeNamespace, true
		}},
		"an empty list replaces": {map[string]string{AnnotationExcludeInboundPorts: ""}, func(s *Sidecar) { s.ExcludeInboundPorts = []int32{} }},
		"no limit":               {map[string]string{AnnotationMemoryLimit: "0"}, func(s *Sidecar) { delete(s.Resources.Limits, "memory") }},
	} {
		t.Run(name, func(t *testing.T) {
			want := base.clone()
			c.change(&want)
			before := base.clone()
			got, err := SidecarFor(base, c.annotations)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
			if diff := cmp.Diff(before, base); diff != "" {
				t.Errorf("base was changed:\n%s", diff)
			}
		})
	}
}

func TestSidecarForRefuses(t *testing.T) {
	base := Default().Sidecar
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"concurrency":  {map[string]string{AnnotationConcurrency: "x"}, `annotation mizzen.dev/proxy-concurrency: "x": want a whole number from 0 to 64`},
		"too many":     {map[string]string{AnnotationConcurrency: "65"}, `annotation mizzen.dev/proxy-concurrency: "65": want a whole number from 0 to 64`},
		"answers":      {map[string]string{AnnotationLogAnswers: "yes"}, `annotation mizzen.dev/log-answers: "yes": want "true" or "false"`},
		"level":        {map[string]string{AnnotationLogLevel: "WARN"}, `annotation mizzen.dev/proxy-log-level: "WARN": want trace, debug, info, warning, error, critical or off`},
		"port":         {map[string]string{AnnotationExcludeInboundPorts: "80,,81"}, `annotation mizzen.dev/exclude-inbound-ports: "80,,81": want TCP ports from 1 to 65535, separated by commas`},
		"host bits":    {map[string]string{AnnotationExcludeOutboundCIDRs: "10.0.0.1/8"}, `annotation mizzen.dev/exclude-outbound-cidrs: "10.0.0.1/8": want CIDRs whose host bits are zero, separated by commas, such as 10.0.0.0/8,fd00::/8`},
		"part seconds": {map[string]string{AnnotationDrainDelay: "1.5s"}, `annotation mizzen.dev/drain-delay: "1.5s": want whole seconds from 0s to 1h, such as 5s`},
		"scope":        {map[string]string{AnnotationConfigScope: "mesh"}, `annotation mizzen.dev/config-scope: "mesh": want all, namespace or demand`},
		"no scope":     {map[string]string{AnnotationConfigScope: ""}, `annotation mizzen.dev/config-scope: "": want all, namespace or demand`},
		"no unit":      {map[string]string{AnnotationMemoryLimit: "128"}, `annotation mizzen.dev/proxy-memory-limit: "128": want a memory quantity of at least 1Mi, such as 128Mi or 1Gi, or "0" for no limit`},
		"zero request": {map[string]string{AnnotationCPURequest: "0"}, `annotation mizzen.dev/proxy-cpu-request: "0": want a CPU quantity above 0, such as 100m or 2`},
		"limit below the request": {map[string]string{AnnotationMemoryLimit: "32Mi"},
			`annotation mizzen.dev/proxy-memory-limit: "32Mi": want at least the request, 64Mi (mizzen.dev/proxy-memory-request)`},
		"typo":       {map[string]string{"mizzen.dev/drain-dela": "5s"}, `annotation mizzen.dev/drain-dela: unknown; did you mean mizzen.dev/drain-delay?`},
		"wrong kind": {map[string]string{LabelInjection: "enabled"}, `annotation mizzen.dev/injection: set it as a label`},
		"all at once": {map[string]string{AnnotationLogLevel: "", AnnotationConcurrency: "-1"},
			`annotation mizzen.dev/proxy-concurrency: "-1": want a whole number from 0 to 64; annotation mizzen.dev/proxy-log-level: "": want trace, debug, info, warning, error, critical or off`},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := SidecarFor(base, c.annotations)
			if err == nil || err.Error() != c.want {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
	_, err := SidecarFor(base, map[string]string{"mizzen.dev/something": ""})
	if err == nil || !strings.Contains(err.Error(), "unknown; want one of mizzen.dev/proxy-cpu-request, ") {
		t.Errorf("unlike any key: %v", err)
	}
	base.Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("100m")}
	_, err = SidecarFor(base, map[string]string{AnnotationCPURequest: "1"})
	if want := `annotation mizzen.dev/proxy-cpu-request: "1": want at most the limit, 100m (mizzen.dev/proxy-cpu-limit)`; err == nil || err.Error() != want {
		t.Errorf("request above the limit: %v, want %s", err, want)
	}
}

// The pod wins over its namespace, and that over the mesh.
func TestSidecarForNamespace(t *testing.T) {
	base := Default().Sidecar
	base.Image = "x"
	namespace := map[string]string{
		AnnotationCPULimit: "1", AnnotationLogLevel: "debug", AnnotationImagePullSecrets: "regcred, other", AnnotationMTLS: "strict", "mizzen.dev/mtsl": "x", "other.dev/x": "y",
	}
	s, err := SidecarForNamespace(base, "shop", namespace)
	if err != nil {
		t.Fatal(err)
	}
	if s, err = SidecarFor(s, map[string]string{AnnotationLogLevel: "error"}); err != nil {
		t.Fatal(err)
	}
	if cpu := s.Resources.Limits["cpu"]; cpu.String() != "1" || s.LogLevel != "error" || !slices.Equal(s.ImagePullSecrets, []string{"regcred", "other"}) {
		t.Errorf("got %+v", s)
	}
	if base.Resources.Limits != nil || base.ImagePullSecrets != nil {
		t.Errorf("the mesh's own changed: %+v", base)
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        string
	}{
		"value":   {map[string]string{AnnotationDrainDelay: "soon"}, `namespace shop has the annotation mizzen.dev/drain-delay: "soon": want whole seconds from 0s to 1h, such as 5s`},
		"limit":   {map[string]string{AnnotationCPULimit: "10m"}, `namespace shop has the annotation mizzen.dev/proxy-cpu-limit: "10m": want at least the request, 50m (mizzen.dev/proxy-cpu-request)`},
		"secrets": {map[string]string{AnnotationImagePullSecrets: "Reg"}, `"Reg": want names of Secrets`},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := SidecarForNamespace(base, "shop", c.annotations); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

func TestCheckPodLabels(t *testing.T) {
	for name, c := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"none":       {nil, ""},
		"others'":    {map[string]string{"app": "x"}, ""},
		"enabled":    {map[string]string{LabelInjection: InjectionEnabled}, ""},
		"disabled":   {map[string]string{LabelInjection: InjectionDisabled}, ""},
		"bad value":  {map[string]string{LabelInjection: "true"}, `label mizzen.dev/injection: "true": want "enabled" or "disabled"`},
		"typo":       {map[string]string{"mizzen.dev/injecton": "disabled"}, "label mizzen.dev/injecton: unknown; did you mean mizzen.dev/injection?"},
		"wrong kind": {map[string]string{AnnotationDrainDelay: "5s"}, "label mizzen.dev/drain-delay: set it as an annotation"},
	} {
		t.Run(name, func(t *testing.T) {
			err := CheckPodLabels(c.labels)
			if (err == nil) != (c.want == "") || (err != nil && err.Error() != c.want) {
				t.Errorf("got  %v\nwant %s", err, c.want)
			}
		})
	}
}

// The code relies on these: one pod label, and a text for every cell of the reference.
func TestTableIsComplete(t *testing.T) {
	seen := map[string]bool{}
	for _, key := range Keys {
		if key.Values == "" || key.Default == "" || key.Doc == "" || len(key.On) == 0 || !ours(key.Name) || seen[key.Name] {
			t.Errorf("incomplete or doubled: %+v", key)
		}
		seen[key.Name] = true
		if key.Kind == Label && key.Name != LabelInjection && slices.Contains(key.On, OnPod) {
			t.Errorf("CheckPodLabels does not know the values of %s", key.Name)
		}
		sets := key.set != nil || key.setCalls != nil || key.setPolicy != nil || key.setOutliers != nil || key.setMTLS != nil
		if key.Kind == Annotation && !sets && key.Name != AnnotationInjected {
			t.Errorf("%s sets nothing", key.Name)
		}
	}
}

func FuzzSidecarFor(f *testing.F) {
	for _, key := range Keys {
		f.Add(key.Name, "5")
		f.Add(key.Name, "1e3,::/0")
	}
	base := Default().Sidecar
	base.Image = "image"
	f.Fuzz(func(t *testing.T, name, value string) {
		s, err := SidecarFor(base, map[string]string{name: value})
		if err != nil {
			if !ours(name) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %q: %v", name, value, err)
			}
			return
		}
		mesh := Default()
		mesh.Sidecar = s
		if err := mesh.Validate(); err != nil {
			t.Errorf("%s: %q was accepted, but: %v", name, value, err)
		}
	})
}
