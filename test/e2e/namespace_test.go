package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

func quantities(cpu, memory string) corev1.ResourceList {
	return corev1.ResourceList{corev1.ResourceCPU: resource.MustParse(cpu), corev1.ResourceMemory: resource.MustParse(memory)}
}

// createWarned makes a pod and gives the warnings that kubectl would print.
func (e *env) createWarned(p *corev1.Pod, dryRun bool) (*corev1.Pod, string) {
	e.Helper()
	created, warnings, err := e.tryWarned(p, dryRun)
	if err != nil {
		e.Fatalf("pod %s: %v; warnings: %s", p.Name, err, warnings)
	}
	return created, warnings
}

func (e *env) tryWarned(p *corev1.Pod, dryRun bool) (*corev1.Pod, string, error) {
	request := e.CoreV1().RESTClient().Post().Namespace(e.ns).Resource("pods").Body(p)
	if dryRun {
		request = request.Param("dryRun", metav1.DryRunAll)
	}
	result := request.Do(e.ctx)
	var texts []string
	for _, w := range result.Warnings() {
		texts = append(texts, w.Text)
	}
	created := &corev1.Pod{}
	return created, strings.Join(texts, "\n"), result.Into(created)
}

// Namespaces with quotas and limits, and pods whose QoS class matters: what starts without a sidecar starts with one, in
// the same class, and what had to be changed for it is said.
func TestNamespaceRules(t *testing.T) {
	beside(t)
	small := corev1.ResourceRequirements{Requests: quantities("10m", "20Mi"), Limits: quantities("20m", "40Mi")}
	none := corev1.ResourceRequirements{}
	limits := func(items ...corev1.LimitRangeItem) *corev1.LimitRangeSpec {
		return &corev1.LimitRangeSpec{Limits: items}
	}
	for _, tc := range []struct {
		name     string
		quota    *corev1.ResourceQuotaSpec
		limits   *corev1.LimitRangeSpec
		app      corev1.ResourceRequirements
		pod      *corev1.ResourceRequirements
		warnings []string
	}{
		{name: "Quota", app: small, quota: &corev1.ResourceQuotaSpec{Hard: corev1.ResourceList{
			"requests.cpu": resource.MustParse("1"), "limits.cpu": resource.MustParse("1"), "limits.memory": resource.MustParse("1Gi"),
		}}, warnings: []string{"ResourceQuota rules"}},
		{name: "QuotaOfNotBestEffort", app: none, quota: &corev1.ResourceQuotaSpec{
			Hard:   corev1.ResourceList{"limits.cpu": resource.MustParse("1")},
			Scopes: []corev1.ResourceQuotaScope{corev1.ResourceQuotaScopeNotBestEffort},
		}, warnings: []string{"ResourceQuota rules"}},
		{name: "Defaults", app: none, limits: limits(corev1.LimitRangeItem{
			Type: corev1.LimitTypeContainer, Default: quantities("20m", "40Mi"), DefaultRequest: quantities("10m", "20Mi"),
		}), warnings: []string{"LimitRange rules", "limit 128Mi"}},
		{name: "Bounds", app: small, limits: limits(corev1.LimitRangeItem{
			Type: corev1.LimitTypeContainer, Min: quantities("5m", "10Mi"), Max: quantities("150m", "100Mi"), MaxLimitRequestRatio: quantities("2", "2"),
		}), warnings: []string{"LimitRange rules", "limit 100Mi"}},
		{name: "BoundsOfPods", app: small, limits: limits(corev1.LimitRangeItem{
			Type: corev1.LimitTypePod, Max: quantities("200m", "150Mi"),
		}, corev1.LimitRangeItem{Type: corev1.LimitTypeContainer, Default: quantities("200m", "150Mi")}), warnings: []string{"LimitRange rules"}},
		{name: "Guaranteed", app: corev1.ResourceRequirements{Limits: quantities("50m", "40Mi")}, warnings: []string{"Guaranteed"}},
		{name: "PodLevel", app: none, pod: &corev1.ResourceRequirements{Limits: quantities("100m", "64Mi")}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := newEnv(t, true)
			meta := metav1.ObjectMeta{Name: "rules"}
			if tc.quota != nil {
				_, err := e.CoreV1().ResourceQuotas(e.ns).Create(e.ctx, &corev1.ResourceQuota{ObjectMeta: meta, Spec: *tc.quota}, metav1.CreateOptions{})
				e.must(err)
				// Until it has been counted the quota lets nobody in.
				e.eventually(30*time.Second, func() (string, error) {
					q, err := e.CoreV1().ResourceQuotas(e.ns).Get(e.ctx, meta.Name, metav1.GetOptions{})
					if err == nil && len(q.Status.Hard) == 0 {
						return "the quota's status", nil
					}
					return "", err
				})
			}
			spec := serverPod()
			spec.Containers[0].Resources, spec.Resources = tc.app, tc.pod
			if tc.limits != nil {
				_, err := e.CoreV1().LimitRanges(e.ns).Create(e.ctx, &corev1.LimitRange{ObjectMeta: meta, Spec: *tc.limits}, metav1.CreateOptions{})
				e.must(err)
				e.eventually(30*time.Second, func() (string, error) {
					// Before it knows, the LimitRange may refuse the pod.
					if _, warnings, err := e.tryWarned(e.pod("app", *spec.DeepCopy()), true); warnings == "" {
						return fmt.Sprintf("a warning that the webhook knows of the LimitRange (%v)", err), nil
					}
					return "", nil
				})
			}
			plain := e.pod("plain", *spec.DeepCopy())
			plain.Labels[config.LabelInjection] = config.InjectionDisabled
			without, _ := e.createWarned(plain, true)
			with, warnings := e.createWarned(e.pod("app", spec), false)
			if with.Status.QOSClass != without.Status.QOSClass {
				t.Errorf("QoS class %s, without a sidecar %s", with.Status.QOSClass, without.Status.QOSClass)
			}
			for _, want := range tc.warnings {
				if !strings.Contains(warnings, want) {
					t.Errorf("no warning names %q: %s", want, warnings)
				}
			}
			if tc.warnings == nil && warnings != "" {
				t.Errorf("warnings: %s", warnings)
			}
			if tc.pod != nil {
				share := resource.MustParse("50m") // the sidecar's request by default
				want := without.Spec.Resources.Requests.Cpu().DeepCopy()
				want.Add(share)
				if got := with.Spec.Resources.Requests.Cpu(); got.Cmp(want) != 0 {
					t.Errorf("the pod requests %s of CPU, want %s", got, want.String())
				}
			}
			e.must(e.WaitPodReady(e.ctx, cluster.Pod{Namespace: e.ns, Name: "app"}, readyTimeout))
		})
	}
}

// What a namespace says holds for its pods, unless they say something else, and is looked at when it is written.
func TestNamespaceSettings(t *testing.T) {
	beside(t)
	e := newEnv(t, true)
	annotate := func(key, value string) error {
		patch := `{"metadata": {"annotations": {"` + key + `": "` + value + `"}}}`
		_, err := e.CoreV1().Namespaces().Patch(e.ctx, e.ns, "application/merge-patch+json", []byte(patch), metav1.PatchOptions{})
		return err
	}
	for key, value := range map[string]string{
		config.AnnotationLogLevel: "loud", config.AnnotationDrainDelay: "soon", config.AnnotationCPULimit: "alot", config.Group + "/proxy-cpu": "1",
	} {
		if err := annotate(key, value); err == nil || !strings.Contains(err.Error(), key) || !strings.Contains(err.Error(), e.ns) {
			t.Errorf("%s: %q on a namespace: %v, want a refusal that names both", key, value, err)
		}
	}
	for key, value := range map[string]string{
		config.AnnotationMemoryLimit: "200Mi", config.AnnotationLogLevel: "info", config.AnnotationImagePullSecrets: "regcred",
	} {
		e.must(annotate(key, value))
	}
	// The webhook's replicas hear of it when their informers do.
	e.eventually(30*time.Second, func() (string, error) {
		p := e.pod("app", serverPod())
		p.Annotations = map[string]string{config.AnnotationLogLevel: "error"}
		created, _ := e.createWarned(p, true)
		for _, c := range created.Spec.InitContainers {
			if c.Name != config.ProxyContainer || c.Resources.Limits.Memory().String() != "200Mi" {
				continue
			}
			if !strings.Contains(strings.Join(c.Args, " "), "--log-level=error") {
				t.Errorf("the pod's own log level does not win: %v", c.Args)
			}
			if len(created.Spec.ImagePullSecrets) != 1 || created.Spec.ImagePullSecrets[0].Name != "regcred" {
				t.Errorf("pull secrets %v, want regcred", created.Spec.ImagePullSecrets)
			}
			return "", nil
		}
		return "a sidecar with the namespace's memory limit", nil
	})
}
