package webhook

import (
	"context"
	"errors"
	"slices"
	"testing"

	jsonpatch "github.com/evanphx/json-patch/v5"
	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	admissionv1 "k8s.io/api/admission/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Two control planes are asked for each pod of a namespace with a revision, in any order and again after a change. The pod ends with
// the revision's sidecar, and never without one.
func TestRevisionsSideBySide(t *testing.T) {
	const revision = "canary"
	meshOf := func(name string) *config.Mesh {
		m := testMesh()
		if m.Revision = name; name != "" {
			m.ControlPlaneAddress = "mizzen-controller-" + name + ".mizzen-system.svc:15010"
		}
		return m
	}
	type wants func(context.Context, string) (string, error)
	handler := func(name string, others wants) *rig {
		registry := prometheus.NewRegistry()
		return &rig{registry: registry, Handler: NewHandler(Options{
			Config: meshOf(name), Version: testVersion, ControlPlaneNamespace: config.SystemNamespace, Revision: others, Registerer: registry, Log: logr.Discard(),
			NamespaceLabels: func(context.Context, string) (map[string]string, error) {
				return map[string]string{config.LabelInjection: config.InjectionEnabled}, nil
			},
		})}
	}
	says := func(revision string, err error) wants {
		return func(context.Context, string) (string, error) { return revision, err }
	}
	main := func(of string) *rig { return handler("", says(of, nil)) }
	other := handler(revision, nil)
	for name, c := range map[string]struct {
		asked []*rig
		want  string
	}{
		"the main one alone":                             {[]*rig{main("")}, ""},
		"the main one first, and again":                  {[]*rig{main(revision), other, main(revision)}, revision},
		"the revision first":                             {[]*rig{other, main(revision), other}, revision},
		"the revision does not answer any more":          {[]*rig{main(revision)}, ""},
		"the revision is gone, a copy of a pod of its":   {[]*rig{other, main("")}, ""},
		"another revision than that of the copied pod":   {[]*rig{other, main("next")}, ""},
		"a main one that knows no revisions, asked last": {[]*rig{handler("", nil), other, handler("", nil), other}, revision},
	} {
		t.Run(name, func(t *testing.T) {
			pod := plainPod
			for _, r := range c.asked {
				pod = patched(t, pod, r.post(t, pod, nil))
			}
			got, err := decode([]byte(pod))
			if err != nil {
				t.Fatal(err)
			}
			if !sidecar.Has(got) || sidecar.Revision(&got.Spec) != c.want {
				t.Errorf("the sidecar of revision %q, want %q", sidecar.Revision(&got.Spec), c.want)
			}
			names := []string{}
			for _, container := range got.Spec.InitContainers {
				names = append(names, container.Name)
			}
			if !slices.Equal(names, []string{config.ProxyContainer, config.CaptureContainer}) {
				t.Errorf("init containers %q", names)
			}
		})
	}

	t.Run("the namespace cannot be read", func(t *testing.T) {
		injected := patched(t, plainPod, other.post(t, plainPod, nil))
		if answer := handler("", says("", errors.New("no cache"))).post(t, injected, nil); answer.Allowed {
			t.Error("allowed, want an error: it is not known whose pod it is")
		}
	})
	t.Run("metric", func(t *testing.T) {
		r := main(revision)
		r.post(t, patched(t, plainPod, other.post(t, plainPod, nil)), nil)
		if n := r.count(t, resultSkipped, string(OtherRevision)); n != 1 {
			t.Errorf("%v are counted as left to another revision, want 1", n)
		}
	})
}

// patched returns the pod with the answer's patch.
func patched(t *testing.T, pod string, answer *admissionv1.AdmissionResponse) string {
	t.Helper()
	if !answer.Allowed {
		t.Fatalf("refused: %v", answer.Result)
	}
	if answer.Patch == nil {
		return pod
	}
	patch, err := jsonpatch.DecodePatch(answer.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := patch.Apply([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
