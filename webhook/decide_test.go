package webhook

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

func TestDecide(t *testing.T) {
	enabled := map[string]string{config.LabelInjection: "enabled"}
	disabled := map[string]string{config.LabelInjection: "disabled"}
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
	typo := Decide(map[string]string{config.LabelInjection: "true"}, pod, config.SystemNamespace)
	if want := `its namespace has the label mizzen.dev/injection: "true": want "enabled" or "disabled"`; typo.Inject || typo.Refuse != want {
		t.Errorf("bad namespace label: got %+v, want %s", typo, want)
	}
	for name, c := range map[string]struct {
		namespaceLabels map[string]string
		change          func(*corev1.Pod)
		want            Reason // empty: inject
	}{
		"namespace enabled":                       {enabled, func(*corev1.Pod) {}, ""},
		"namespace without label":                 {nil, func(*corev1.Pod) {}, NamespaceNotEnabled},
		"namespace disabled":                      {disabled, func(*corev1.Pod) {}, NamespaceNotEnabled},
		"pod enabled, namespace without label":    {nil, labelled("enabled"), ""},
		"pod enabled, namespace disabled":         {disabled, labelled("enabled"), ""},
		"pod disabled, namespace enabled":         {enabled, labelled("disabled"), DisabledOnPod},
		"a bad pod label is for Inject to refuse": {nil, labelled("yes"), ""},
		"control plane":                           {enabled, func(p *corev1.Pod) { p.Namespace = config.SystemNamespace }, ControlPlanePod},
		"control plane, pod enabled": {nil, func(p *corev1.Pod) {
			labelled("enabled")(p)
			p.Namespace = config.SystemNamespace
		}, ControlPlanePod},
		"kube-system": {enabled, func(p *corev1.Pod) { p.Namespace = metav1.NamespaceSystem }, SystemNamespace},
		"static pod": {enabled, func(p *corev1.Pod) {
			p.Annotations = map[string]string{corev1.MirrorPodAnnotationKey: "x"}
		}, MirrorPod},
		"host network":              {enabled, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, HostNetwork},
		"host network, not enabled": {nil, func(p *corev1.Pod) { p.Spec.HostNetwork = true }, NamespaceNotEnabled},
		"windows":                   {enabled, func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, Windows},
		"windows by node selector": {enabled, func(p *corev1.Pod) {
			p.Spec.NodeSelector = map[string]string{corev1.LabelOSStable: "windows"}
		}, Windows},
		"copy, namespace without label": {nil, carrying, ""},
		"copy, namespace disabled":      {disabled, carrying, ""},
		"copy, pod disabled": {enabled, func(p *corev1.Pod) {
			carrying(p)
			labelled("disabled")(p)
		}, DisabledOnPod},
		"copy on the node's network, namespace without label": {nil, func(p *corev1.Pod) {
			carrying(p)
			p.Spec.HostNetwork = true
		}, HostNetwork},
		"our names, but no sidecar": {nil, func(p *corev1.Pod) {
			p.Spec.InitContainers = []corev1.Container{{Name: config.ProxyContainer}, {Name: config.CaptureContainer}}
		}, NamespaceNotEnabled},
		"linux": {enabled, func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} }, ""},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web"}}
			c.change(pod)
			want := Decision{Inject: c.want == "", Reason: c.want}
			if got := Decide(c.namespaceLabels, pod, config.SystemNamespace); got != want {
				t.Errorf("got %+v, want %+v", got, want)
			}
			if c.want != "" && c.want.Explain() == "" {
				t.Errorf("%s has no explanation", c.want)
			}
		})
	}
}

func carrying(p *corev1.Pod) { p.Spec.InitContainers = sidecartest.Containers() }

func labelled(value string) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Labels = map[string]string{config.LabelInjection: value} }
}
