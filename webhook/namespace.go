package webhook

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Namespace has the settings and rules of a pod's namespace. The zero value has none.
type Namespace struct {
	Labels, Annotations map[string]string
	Quotas              []*corev1.ResourceQuota
	LimitRanges         []*corev1.LimitRange
}

// podSecurityEnforce is the label with the Pod Security Standard that a namespace enforces.
// https://kubernetes.io/docs/concepts/security/pod-security-admission/
const podSecurityEnforce = "pod-security.kubernetes.io/enforce"

// RefusesCapture says why a namespace with these labels refuses pods with a sidecar, and what would be right. The texts
// are empty if it does not.
func RefusesCapture(labels map[string]string) (why, want string) {
	level := labels[podSecurityEnforce]
	if level != "baseline" && level != "restricted" {
		return "", ""
	}
	why = fmt.Sprintf("the namespace enforces Pod Security %q (label %s), which refuses the capability NET_ADMIN of the init container %s",
		level, podSecurityEnforce, config.CaptureContainer)
	return why, fmt.Sprintf("%s=privileged (warn and audit may stay %s), or no injection", podSecurityEnforce, level)
}

// addPullSecrets adds the names of the Secrets for the sidecar's image, after those of the pod.
func addPullSecrets(spec *corev1.PodSpec, names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(spec.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == name }) {
			spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
		}
	}
}

// concerns reports whether a quota counts a pod of a QoS class. A quota with an unknown scope counts no pod.
func concerns(quota *corev1.ResourceQuota, pod *corev1.Pod, class corev1.PodQOSClass) bool {
	var selectors []corev1.ScopedResourceSelectorRequirement
	for _, scope := range quota.Spec.Scopes {
		selectors = append(selectors, corev1.ScopedResourceSelectorRequirement{ScopeName: scope, Operator: corev1.ScopeSelectorOpExists})
	}
	if quota.Spec.ScopeSelector != nil {
		selectors = append(selectors, quota.Spec.ScopeSelector.MatchExpressions...)
	}
	return !slices.ContainsFunc(selectors, func(s corev1.ScopedResourceSelectorRequirement) bool { return !inScope(s, pod, class) })
}

func inScope(s corev1.ScopedResourceSelectorRequirement, pod *corev1.Pod, class corev1.PodQOSClass) bool {
	deadline := pod.Spec.ActiveDeadlineSeconds
	terminating := deadline != nil && *deadline >= 0
	switch s.ScopeName {
	case corev1.ResourceQuotaScopeTerminating:
		return terminating
	case corev1.ResourceQuotaScopeNotTerminating:
		return !terminating
	case corev1.ResourceQuotaScopeBestEffort:
		return class == corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopeNotBestEffort:
		return class != corev1.PodQOSBestEffort
	case corev1.ResourceQuotaScopePriorityClass:
		return inPriority(s, pod.Spec.PriorityClassName)
	case corev1.ResourceQuotaScopeCrossNamespacePodAffinity:
		return crossesNamespaces(pod.Spec.Affinity)
	}
	return false
}

func inPriority(s corev1.ScopedResourceSelectorRequirement, class string) bool {
	switch s.Operator {
	case corev1.ScopeSelectorOpExists:
		return class != ""
	case corev1.ScopeSelectorOpDoesNotExist:
		return class == ""
	case corev1.ScopeSelectorOpNotIn:
		return !slices.Contains(s.Values, class)
	}
	return slices.Contains(s.Values, class)
}

func crossesNamespaces(affinity *corev1.Affinity) bool {
	if affinity == nil {
		return false
	}
	var terms []corev1.PodAffinityTerm
	add := func(required []corev1.PodAffinityTerm, preferred []corev1.WeightedPodAffinityTerm) {
		terms = append(terms, required...)
		for _, p := range preferred {
			terms = append(terms, p.PodAffinityTerm)
		}
	}
	if a := affinity.PodAffinity; a != nil {
		add(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	if a := affinity.PodAntiAffinity; a != nil {
		add(a.RequiredDuringSchedulingIgnoredDuringExecution, a.PreferredDuringSchedulingIgnoredDuringExecution)
	}
	return slices.ContainsFunc(terms, func(t corev1.PodAffinityTerm) bool { return len(t.Namespaces) > 0 || t.NamespaceSelector != nil })
}

// computeKeys are the names of a quota's compute resources: every container must set these.
var computeKeys = map[corev1.ResourceName]struct {
	resource corev1.ResourceName
	limit    bool
}{
	corev1.ResourceCPU:            {corev1.ResourceCPU, false},
	corev1.ResourceRequestsCPU:    {corev1.ResourceCPU, false},
	corev1.ResourceLimitsCPU:      {corev1.ResourceCPU, true},
	corev1.ResourceMemory:         {corev1.ResourceMemory, false},
	corev1.ResourceRequestsMemory: {corev1.ResourceMemory, false},
	corev1.ResourceLimitsMemory:   {corev1.ResourceMemory, true},
}

// wantsOf returns the compute resources of a quota, in a fixed order.
func wantsOf(quota *corev1.ResourceQuota) []corev1.ResourceName {
	var out []corev1.ResourceName
	for name := range quota.Spec.Hard {
		if _, ok := computeKeys[name]; ok {
			out = append(out, name)
		}
	}
	slices.SortFunc(out, func(a, b corev1.ResourceName) int { return strings.Compare(string(a), string(b)) })
	return out
}
