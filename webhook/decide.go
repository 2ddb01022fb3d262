package webhook

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Reason says why a pod gets no sidecar. It is a metric label, so it never holds names or values.
type Reason string

// The reasons of Decide, AlreadyInjected, which Inject finds, and OtherRevision, which the handler finds.
const (
	ControlPlanePod     Reason = "control-plane-pod"
	SystemNamespace     Reason = "system-namespace"
	MirrorPod           Reason = "mirror-pod"
	DisabledOnPod       Reason = "disabled-on-pod"
	NamespaceNotEnabled Reason = "namespace-not-enabled"
	HostNetwork         Reason = "host-network"
	Windows             Reason = "windows"
	AlreadyInjected     Reason = "already-injected"
	OtherRevision       Reason = "other-revision"
)

// Reasons of the handler: the request does not concern injection.
const (
	NotAPod      Reason = "not-a-pod"
	NotACreation Reason = "not-a-creation"
)

var explanations = map[Reason]string{
	ControlPlanePod:     "the control plane's own pods must start before any sidecar",
	SystemNamespace:     "pods of " + metav1.NamespaceSystem + " must not depend on the mesh",
	MirrorPod:           "a static pod is already running on its node and cannot be changed",
	DisabledOnPod:       "the pod's label " + config.LabelInjection + "=" + config.InjectionDisabled + " turns injection off",
	NamespaceNotEnabled: "neither the namespace nor the pod has the label " + config.LabelInjection + "=" + config.InjectionEnabled,
	HostNetwork:         "hostNetwork: the capture rules would apply to the whole node",
	Windows:             "traffic capture needs Linux",
	AlreadyInjected:     "the pod already has the sidecar",
	OtherRevision:       "a control plane beside this one has injected it, as its namespace's label " + config.LabelRevision + " says",
	NotAPod:             "the object is not a pod",
	NotACreation:        "only a pod that is being created can get a sidecar",
}

// Explain returns the reason as a sentence.
func (r Reason) Explain() string { return explanations[r] }

// Decision says whether a pod gets a sidecar. Reason is empty if it does.
type Decision struct {
	Inject bool
	Reason Reason
	// Refuse says why the pod must not be created at all: the label of its namespace has a bad value. Ignoring the
	// label could start the pod without the sidecar that somebody wanted.
	Refuse string
}

// Remove reports whether injection removes the sidecar of a copied pod: the pod's label turns injection off, or the
// sidecar cannot work where the copy is.
func (d Decision) Remove(pod *corev1.Pod) bool {
	_, carries := sidecar.Find(&pod.Spec)
	return carries && (d.Reason == DisabledOnPod || d.Reason == HostNetwork || d.Reason == Windows)
}

func skip(r Reason) Decision { return Decision{Reason: r} }

// Decide decides whether a pod gets a sidecar. The pod's label overrides its namespace's. A bad value of the pod's
// label counts as enabled here, so that Inject can refuse it by name. A pod that already carries a sidecar is a copy of
// a pod of the mesh, such as kubectl debug makes without labels, and belongs to the mesh, too.
func Decide(namespaceLabels map[string]string, pod *corev1.Pod, controlPlaneNamespace string) Decision {
	switch pod.Namespace {
	case controlPlaneNamespace:
		return skip(ControlPlanePod)
	case metav1.NamespaceSystem:
		return skip(SystemNamespace)
	}
	if _, ok := pod.Annotations[corev1.MirrorPodAnnotationKey]; ok {
		return skip(MirrorPod)
	}
	_, carries := sidecar.Find(&pod.Spec)
	switch value, ok := pod.Labels[config.LabelInjection]; {
	case value == config.InjectionDisabled:
		return skip(DisabledOnPod)
	case !ok:
		switch value, ok := namespaceLabels[config.LabelInjection]; {
		case ok && value != config.InjectionEnabled && value != config.InjectionDisabled:
			return Decision{Refuse: fmt.Sprintf("its namespace has the label %s: %q: want %q or %q",
				config.LabelInjection, value, config.InjectionEnabled, config.InjectionDisabled)}
		case value != config.InjectionEnabled && !carries:
			return skip(NamespaceNotEnabled)
		}
	}
	if pod.Spec.HostNetwork {
		return skip(HostNetwork)
	}
	if isWindows(pod) {
		return skip(Windows)
	}
	return Decision{Inject: true}
}

func isWindows(pod *corev1.Pod) bool {
	if pod.Spec.OS != nil {
		return pod.Spec.OS.Name == corev1.Windows
	}
	return pod.Spec.NodeSelector[corev1.LabelOSStable] == string(corev1.Windows)
}
