package e2e

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Copies of a pod come up like the pod, side by side in a meshed and a plain namespace: those that kubectl debug makes, with the
// sidecar but without labels and annotations, and a manifest that somebody has taken from the cluster. Those with a sidecar
// call with mTLS, which the strict server sees.
func TestCopies(t *testing.T) {
	beside(t)
	strict := newEnv(t, true)
	strict.server("server", 1)
	strict.annotate(config.AnnotationMTLS, "strict")
	strict.ready("server")
	target := api.Call{Kind: api.HTTP, Target: fmt.Sprintf("http://server.%s:%d/", strict.ns, httpPort)}

	for name, of := range map[string]struct {
		meshed bool
		label  string
	}{"meshed": {true, ""}, "labelled pod": {false, config.InjectionEnabled}, "plain": {false, ""}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := newEnv(t, of.meshed)
			original := e.pod("original", serverPod("server"))
			if of.label != "" {
				original.Labels[config.LabelInjection] = of.label
			}
			e.create(original)
			e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "original"}, readyTimeout))
			injected := (of.meshed || of.label != "") && !withoutMesh
			for _, c := range copies(e) {
				e.must(c.make())
				pod := cluster.Pod{Namespace: e.ns, Name: c.name}
				e.must(e.WaitPodReady(e.ctx, pod, readyTimeout))
				if got := e.carries(pod); got != (injected && !c.without) {
					t.Errorf("%s: a sidecar %v, want %v", c.name, got, injected && !c.without)
				}
				if injected && !c.without {
					e.reachable(pod, target)
				}
			}
			e.ephemeral("original")
		})
	}
}

type podCopy struct {
	name string
	make func() error
	// without is set for one that is to have no sidecar.
	without bool
}

func copies(e *env) []podCopy {
	debug := func(name string, flags ...string) podCopy {
		return podCopy{name: name, make: func() error {
			_, err := e.Kubectl(e.ctx, "", append([]string{"debug", "original", "-n", e.ns, "--copy-to=" + name}, flags...)...)
			return err
		}}
	}
	changed := func(name string, without bool, change func(*corev1.Pod)) podCopy {
		return podCopy{name, func() error {
			p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, "original", metav1.GetOptions{})
			if err != nil {
				return err
			}
			p.ObjectMeta = metav1.ObjectMeta{Name: name, Labels: p.Labels}
			change(p)
			_, err = e.CoreV1().Pods(e.ns).Create(e.ctx, p, metav1.CreateOptions{})
			return err
		}, without}
	}
	return []podCopy{
		debug("image", "--image="+testImage, "--container=debugger", "--share-processes", "--", "/testapp", "sleep"),
		debug("set-image", "--set-image=*="+testImage),
		debug("command", "--container=app", "--", "/testapp", "server"),
		changed("restored", false, func(*corev1.Pod) {}),
		changed("older-version", false, func(p *corev1.Pod) {
			capture, proxy := sidecar.Capture(&p.Spec), sidecar.Proxy(&p.Spec)
			if proxy == nil {
				return
			}
			p.Labels = nil
			capture.Image, proxy.Image = "mizzen/proxy:gone", "mizzen/proxy:gone"
			proxy.Args = []string{"run", "--control-plane=mizzen-controller.gone.svc:15010"}
			proxy.Env = slices.DeleteFunc(proxy.Env, func(e corev1.EnvVar) bool { // neither mark nor roots
				return e.Name != appprobe.EnvVar && e.Name != appprobe.KeyEnv && e.ValueFrom == nil
			})
			p.Spec.Volumes = append(p.Spec.Volumes, corev1.Volume{Name: config.ProxyVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}})
			proxy.VolumeMounts = append(proxy.VolumeMounts, corev1.VolumeMount{Name: config.ProxyVolume, MountPath: fixed.ProxyDir})
		}),
		changed("disabled", true, func(p *corev1.Pod) { p.Labels = map[string]string{config.LabelInjection: config.InjectionDisabled} }),
	}
}

func (e *env) carries(pod cluster.Pod) bool {
	e.Helper()
	p, err := e.CoreV1().Pods(pod.Namespace).Get(e.ctx, pod.Name, metav1.GetOptions{})
	e.must(err)
	return sidecar.Has(p)
}

// ephemeral debugs a running pod.
func (e *env) ephemeral(pod string) {
	e.Helper()
	_, err := e.Kubectl(e.ctx, "", "debug", pod, "-n", e.ns, "--image="+testImage, "--container=debugger", "--target=app", "--", "/testapp", "sleep")
	e.must(err)
	e.eventually(time.Minute, func() (string, error) {
		p, err := e.CoreV1().Pods(e.ns).Get(e.ctx, pod, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		for _, s := range p.Status.EphemeralContainerStatuses {
			if s.State.Running != nil && cluster.Ready(p) {
				return "", nil
			}
		}
		return "the ephemeral container of " + pod + " does not run", nil
	})
}

// An admission policy that comes after injection, and before it is asked again, takes all annotations away.
func TestOtherAdmission(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	name := "annotations." + e.ns + ".example"
	inNamespace := &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelMetadataName: e.ns}}
	policies := e.AdmissionregistrationV1().MutatingAdmissionPolicies()
	bindings := e.AdmissionregistrationV1().MutatingAdmissionPolicyBindings()
	fail := admissionv1.Fail
	_, err := policies.Create(e.ctx, &admissionv1.MutatingAdmissionPolicy{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec: admissionv1.MutatingAdmissionPolicySpec{
			FailurePolicy:      &fail,
			ReinvocationPolicy: admissionv1.IfNeededReinvocationPolicy,
			MatchConstraints: &admissionv1.MatchResources{
				NamespaceSelector: inNamespace,
				ResourceRules: []admissionv1.NamedRuleWithOperations{{RuleWithOperations: admissionv1.RuleWithOperations{
					Operations: []admissionv1.OperationType{admissionv1.Create},
					Rule:       admissionv1.Rule{APIGroups: []string{""}, APIVersions: []string{"v1"}, Resources: []string{"pods"}},
				}}},
			},
			Mutations: []admissionv1.Mutation{{
				PatchType: admissionv1.PatchTypeJSONPatch,
				JSONPatch: &admissionv1.JSONPatch{Expression: `[JSONPatch{op: "add", path: "/metadata/annotations", value: {"policy.example/applied": "true"}}]`},
			}},
		},
	}, metav1.CreateOptions{})
	e.must(err)
	t.Cleanup(func() { _ = policies.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	_, err = bindings.Create(e.ctx, &admissionv1.MutatingAdmissionPolicyBinding{
		ObjectMeta: metav1.ObjectMeta{Name: name},
		Spec:       admissionv1.MutatingAdmissionPolicyBindingSpec{PolicyName: name},
	}, metav1.CreateOptions{})
	e.must(err)
	t.Cleanup(func() { _ = bindings.Delete(context.Background(), name, metav1.DeleteOptions{}) })
	e.eventually(30*time.Second, func() (string, error) {
		p, err := e.CoreV1().Pods(e.ns).Create(e.ctx, e.pod("probe", serverPod()), metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}})
		if err != nil {
			return "", err
		}
		if p.Annotations["policy.example/applied"] == "" {
			return "the policy is not in force", nil
		}
		return "", nil
	})
	e.server("server", 1)
	e.ready("server")
	for _, p := range e.podsOf("server") {
		e.hasSidecar(p)
	}
	e.reachable(e.client(), httpCall)
}
