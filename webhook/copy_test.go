package webhook

import (
	"maps"
	"os"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// injectedPod has probes and hooks of every kind.
func injectedPod(t *testing.T, change func(*corev1.Pod, *config.Mesh)) (pod *corev1.Pod, mesh *config.Mesh) {
	t.Helper()
	in, err := os.ReadFile("testdata/probes-and-hooks/in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	pod, mesh = readPod(t, in), testMesh()
	change(pod, mesh)
	return inject(t, pod, mesh), mesh
}

func inject(t *testing.T, pod *corev1.Pod, mesh *config.Mesh) *corev1.Pod {
	t.Helper()
	out, _, err := Inject(pod, Namespace{}, mesh, testVersion, nil, testKey)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func asItWas(*corev1.Pod, *config.Mesh) {}

// What the API server asks again about, after others have changed the pod, ends as if they had come first, and what they made
// of our containers stays.
func TestReinvocation(t *testing.T) {
	always := new(corev1.ContainerRestartPolicyAlways)
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		check  func(t *testing.T, out *corev1.Pod)
	}{
		"annotations replaced": {
			func(p *corev1.Pod) { p.Annotations = map[string]string{"other.example/policy": "applied"} },
			func(t *testing.T, out *corev1.Pod) {
				if keys := slices.Sorted(maps.Keys(out.Annotations)); !slices.Equal(keys, []string{defaultContainerAnnotation, config.AnnotationInjected, "other.example/policy"}) {
					t.Errorf("annotations %v", out.Annotations)
				}
			},
		},
		"labels and annotations gone": {func(p *corev1.Pod) { p.Annotations, p.Labels = nil, nil }, nil},
		"another registry": {
			func(p *corev1.Pod) {
				for i := range p.Spec.InitContainers {
					p.Spec.InitContainers[i].Image = "mirror.example/" + p.Spec.InitContainers[i].Image
				}
			},
			func(t *testing.T, out *corev1.Pod) {
				for _, c := range []*corev1.Container{sidecar.Capture(&out.Spec), sidecar.Proxy(&out.Spec)} {
					if c.Image != "mirror.example/mizzen/proxy:test" {
						t.Errorf("image %s", c.Image)
					}
				}
			},
		},
		"a variable and a mount in every container": {
			func(p *corev1.Pod) {
				for i := range p.Spec.InitContainers {
					p.Spec.InitContainers[i].Env = append(p.Spec.InitContainers[i].Env, corev1.EnvVar{Name: "OTHER", Value: "x"})
				}
			},
			func(t *testing.T, out *corev1.Pod) {
				if envValue(sidecar.Proxy(&out.Spec), "OTHER") != "x" {
					t.Error("the other's variable is lost")
				}
			},
		},
		"init containers in reverse order, others put before": {
			func(p *corev1.Pod) {
				slices.Reverse(p.Spec.InitContainers)
				p.Spec.InitContainers = append([]corev1.Container{{Name: "first", Image: "other/first:1"}, {Name: "second", Image: "other/second:1", RestartPolicy: always}}, p.Spec.InitContainers...)
			},
			func(t *testing.T, out *corev1.Pod) {
				if found, ok := sidecar.Find(&out.Spec); !ok || found != (sidecar.Containers{Proxy: 0, Capture: 1}) {
					t.Errorf("the sidecar is at %+v, want it first", found)
				}
			},
		},
		"a container with a probe": {
			func(p *corev1.Pod) {
				get := &corev1.HTTPGetAction{Path: "/ready", Port: p.Spec.Containers[0].ReadinessProbe.HTTPGet.Port}
				get.Port.IntVal = 9000
				p.Spec.Containers = append([]corev1.Container{{Name: "added", Image: "other/agent:1",
					ReadinessProbe: &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: get}}}}, p.Spec.Containers...)
			},
			func(t *testing.T, out *corev1.Pod) {
				if get := out.Spec.Containers[0].ReadinessProbe.HTTPGet; get.Path != "/app-health/added/readyz" || out.Spec.Containers[0].Lifecycle.PreStop == nil {
					t.Errorf("the added container: %+v", out.Spec.Containers[0])
				}
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			pod, mesh := injectedPod(t, asItWas)
			changed := pod.DeepCopy()
			c.change(changed)
			out, report, err := Inject(changed, Namespace{}, mesh, testVersion, nil, "another-key")
			if err != nil {
				t.Fatal(err)
			}
			if report.MadeAnew {
				t.Error("the sidecar was made anew")
			}
			before, after := sidecar.Proxy(&pod.Spec), sidecar.Proxy(&out.Spec)
			if !slices.Equal(before.Args, after.Args) || before.Resources.String() != after.Resources.String() {
				t.Errorf("the proxy changed:\n%s", cmp.Diff(before, after))
			}
			if c.check != nil {
				c.check(t, out)
			}
			checkStable(t, out, mesh, nil)
		})
	}
}

// A copy gets the sidecar that the pod would get if somebody had written it, from wherever it was copied.
func TestCopiesAreMadeAnew(t *testing.T) {
	for name, elsewhere := range map[string]func(*corev1.Pod, *config.Mesh){
		"another image":         func(_ *corev1.Pod, m *config.Mesh) { m.Sidecar.Image = "mizzen/proxy:older" },
		"another control plane": func(_ *corev1.Pod, m *config.Mesh) { m.ControlPlaneAddress = "mizzen.other-mesh.svc:15010" },
		"another workload's": func(p *corev1.Pod, _ *config.Mesh) {
			p.Annotations = map[string]string{config.AnnotationConcurrency: "4", config.AnnotationExcludeInboundPorts: "9999"}
		},
	} {
		t.Run(name, func(t *testing.T) {
			want, mesh := injectedPod(t, asItWas)
			pod, _ := injectedPod(t, elsewhere)
			pod.Annotations = want.Annotations // kubectl debug leaves none, a restore those that it is told to
			out, report, err := Inject(pod, Namespace{}, mesh, testVersion, nil, "another-key")
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(want, out); diff != "" || !report.MadeAnew {
				t.Errorf("made anew %v, -written +copied:\n%s", report.MadeAnew, diff)
			}
		})
	}
}

// Remove undoes what Inject does, but for what only adds to the application's containers.
func TestRemove(t *testing.T) {
	in, err := os.ReadFile("testdata/probes-and-hooks/in.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*corev1.Pod, *config.Mesh){
		"as it was": asItWas,
		"with a budget of the pod": func(p *corev1.Pod, _ *config.Mesh) {
			p.Spec.Resources = &corev1.ResourceRequirements{Requests: testMesh().Sidecar.Resources.Requests.DeepCopy()}
		},
	} {
		t.Run(name, func(t *testing.T) {
			want := readPod(t, in)
			change(want, nil)
			pod, mesh := injectedPod(t, change)
			out, err := Remove(pod)
			if err != nil {
				t.Fatal(err)
			}
			// Injected once more it is the same again, and no container of ours is left.
			if _, ok := sidecar.Find(&out.Spec); ok || len(out.Spec.InitContainers) != len(want.Spec.InitContainers) || len(out.Spec.Volumes) != len(want.Spec.Volumes) {
				t.Errorf("%d init containers and %d volumes are left", len(out.Spec.InitContainers), len(out.Spec.Volumes))
			}
			if diff := cmp.Diff(want.Spec.Resources, out.Spec.Resources); diff != "" {
				t.Errorf("the pod's budget, -before +after:\n%s", diff)
			}
			if diff := cmp.Diff(pod, inject(t, out, mesh)); diff != "" {
				t.Errorf("injected, removed and injected:\n%s", diff)
			}
		})
	}
}
