package webhook

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	resourcehelper "k8s.io/component-helpers/resource"

	"github.com/mizzen-mesh/mizzen/config"
)

// settings are the annotations that change a resource of the sidecar.
var settings = map[corev1.ResourceName]string{
	corev1.ResourceCPU:    config.AnnotationCPURequest + " and " + config.AnnotationCPULimit,
	corev1.ResourceMemory: config.AnnotationMemoryRequest + " and " + config.AnnotationMemoryLimit,
}

// resourcesFor returns resources of the sidecar's containers that the pod's namespace accepts: the configured ones,
// unless a LimitRange or a ResourceQuota refuses them, or they would change the pod's QoS class. Each change is a
// warning.
func resourcesFor(pod *corev1.Pod, ns Namespace, configured corev1.ResourceRequirements) (corev1.ResourceRequirements, []string) {
	class := qosClass(pod)
	if quota := refusesBestEffort(pod, ns.Quotas, class); quota != "" {
		return corev1.ResourceRequirements{}, []string{fmt.Sprintf(
			"the sidecar gets no requests and no limits, because otherwise the pod would not be BestEffort, and ResourceQuota %s would refuse "+
				"its other containers, which have none", quota)}
	}
	out := *configured.DeepCopy()
	podLevel := resourcehelper.IsPodLevelResourcesSet(pod)
	var warnings []string
	for _, name := range resourceNames(configured, ns.LimitRanges) {
		var quotas []*corev1.ResourceQuota
		if !podLevel { // otherwise quotas demand nothing of single containers
			quotas = concerning(ns.Quotas, pod, corev1.PodQOSBurstable)
		}
		before := shareOf(out, name)
		b := boundsOf(name, ns.LimitRanges, quotas)
		guaranteed := class == corev1.PodQOSGuaranteed && settings[name] != ""
		if guaranteed && !podLevel && b.needLimit == "" {
			b.needLimit = guaranteedPod
		}
		after, because := b.fit(before, name)
		if guaranteed && after.limit != nil && after.request.Cmp(*after.limit) != 0 {
			after.request = after.limit
			if !slices.Contains(because, guaranteedPod) {
				because = append(because, guaranteedPod)
			}
		}
		after, because = fitPod(pod, out, name, after, because, ns.LimitRanges)
		set(&out, name, after)
		if !before.equal(after) && settings[name] != "" {
			warnings = append(warnings, fmt.Sprintf("the sidecar's %s has %s in place of the configured %s, because of %s; to set other values, use %s on the pod or its namespace",
				name, after, before, strings.Join(because, " and "), settings[name]))
		}
	}
	if class == corev1.PodQOSGuaranteed && !podLevel && qosOf(out) != corev1.PodQOSGuaranteed {
		warnings = append(warnings, "with the sidecar the pod is Burstable; without it the pod would be Guaranteed")
	}
	return out, warnings
}

// guaranteedPod is the reason of changes that keep a pod Guaranteed.
const guaranteedPod = "the pod's QoS class Guaranteed"

// resourceNames returns the configured or limited resources, CPU first, then memory.
func resourceNames(r corev1.ResourceRequirements, limitRanges []*corev1.LimitRange) []corev1.ResourceName {
	out := []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory}
	others := map[corev1.ResourceName]bool{}
	for _, list := range []corev1.ResourceList{r.Requests, r.Limits} {
		for name := range list {
			others[name] = true
		}
	}
	for _, lr := range limitRanges {
		for _, item := range lr.Spec.Limits {
			_, least := item.Min[corev1.ResourceEphemeralStorage]
			_, most := item.Max[corev1.ResourceEphemeralStorage]
			_, ratio := item.MaxLimitRequestRatio[corev1.ResourceEphemeralStorage]
			if item.Type == corev1.LimitTypeContainer && (least || most || ratio) {
				others[corev1.ResourceEphemeralStorage] = true
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(others)) {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

func set(r *corev1.ResourceRequirements, name corev1.ResourceName, s share) {
	put := func(list *corev1.ResourceList, q *resource.Quantity) {
		if q == nil {
			return
		}
		if *list == nil {
			*list = corev1.ResourceList{}
		}
		(*list)[name] = *q
	}
	put(&r.Requests, s.request)
	put(&r.Limits, s.limit)
}

// concerning returns the quotas that count a pod of a QoS class.
func concerning(quotas []*corev1.ResourceQuota, pod *corev1.Pod, class corev1.PodQOSClass) []*corev1.ResourceQuota {
	return slices.DeleteFunc(slices.Clone(quotas), func(q *corev1.ResourceQuota) bool { return !concerns(q, pod, class) })
}

// refusesBestEffort returns the name of a quota that admits a BestEffort pod, but would refuse it with a sidecar that
// has requests.
func refusesBestEffort(pod *corev1.Pod, quotas []*corev1.ResourceQuota, class corev1.PodQOSClass) string {
	if class != corev1.PodQOSBestEffort {
		return ""
	}
	for _, q := range quotas {
		if len(wantsOf(q)) > 0 && concerns(q, pod, corev1.PodQOSBurstable) && !concerns(q, pod, class) {
			return q.Name
		}
	}
	return ""
}

// fitPod fits the sidecar's share into the bounds that LimitRanges set for whole pods, as far as the pod without the
// sidecar meets them.
func fitPod(pod *corev1.Pod, r corev1.ResourceRequirements, name corev1.ResourceName, s share, because []string, limitRanges []*corev1.LimitRange) (share, []string) {
	plainRequests, plainLimits := totals(pod)
	for _, lr := range limitRanges {
		for _, item := range lr.Spec.Limits {
			if item.Type != corev1.LimitTypePod {
				continue
			}
			by, changed := "LimitRange "+lr.Name, false
			if ratio, ok := item.MaxLimitRequestRatio[name]; ok && s.limit != nil && s.request != nil {
				if least := divided(*s.limit, ratio, name); s.request.Cmp(least) < 0 {
					s.request, changed = &least, true
				}
			}
			high, ok := item.Max[name]
			if !ok {
				continue
			}
			trial := *r.DeepCopy()
			set(&trial, name, s)
			requests, limits := totals(withShare(pod, trial))
			if excess := over(limits, high, name); s.limit != nil && excess != nil && over(plainLimits, high, name) == nil {
				s.limit, changed = less(*s.limit, *excess, name), true
			}
			if excess := over(requests, high, name); s.request != nil && excess != nil && over(plainRequests, high, name) == nil {
				s.request, changed = less(*s.request, *excess, name), true
			}
			if s.limit != nil && s.request != nil && s.request.Cmp(*s.limit) > 0 {
				s.request = s.limit
			}
			if changed && !slices.Contains(because, by) {
				because = append(because, by)
			}
		}
	}
	return s, because
}

// over returns by how much a total exceeds a bound, or nil.
func over(total corev1.ResourceList, high resource.Quantity, name corev1.ResourceName) *resource.Quantity {
	q, ok := total[name]
	if !ok || q.Cmp(high) <= 0 {
		return nil
	}
	q.Sub(high)
	return &q
}

// less subtracts the excess, if enough is left: a refused pod is better than one whose sidecar is killed or throttled
// at its start.
func less(q, excess resource.Quantity, name corev1.ResourceName) *resource.Quantity {
	rest := q.DeepCopy()
	rest.Sub(excess)
	least := resource.MustParse("32Mi")
	if name == corev1.ResourceCPU {
		least = resource.MustParse("10m")
	}
	if rest.Cmp(least) < 0 {
		return &q
	}
	return &rest
}

func totals(pod *corev1.Pod) (requests, limits corev1.ResourceList) {
	return resourcehelper.PodRequests(pod, resourcehelper.PodResourcesOptions{}), resourcehelper.PodLimits(pod, resourcehelper.PodResourcesOptions{})
}

// withShare returns the pod with a stand-in for the sidecar that has only its resources.
func withShare(pod *corev1.Pod, r corev1.ResourceRequirements) *corev1.Pod {
	out := pod.DeepCopy()
	addPodResources(out, r)
	out.Spec.InitContainers = append([]corev1.Container{{
		Name: config.ProxyContainer, RestartPolicy: new(corev1.ContainerRestartPolicyAlways), Resources: r,
	}}, out.Spec.InitContainers...)
	return out
}

// noRoom returns a warning for each quota without room for the pod with its sidecar, whether or not there is room for
// the pod alone.
func noRoom(pod *corev1.Pod, quotas []*corev1.ResourceQuota, r corev1.ResourceRequirements) []string {
	with := withShare(pod, r)
	class := corev1.PodQOSBurstable
	if len(r.Requests)+len(r.Limits) == 0 {
		class = qosClass(pod)
	}
	requests, limits := totals(with)
	var warnings []string
	for _, quota := range concerning(quotas, pod, class) {
		for _, key := range wantsOf(quota) {
			of := computeKeys[key]
			total, part := requests[of.resource], r.Requests[of.resource]
			if of.limit {
				total, part = limits[of.resource], r.Limits[of.resource]
			}
			left := quota.Status.Hard[key].DeepCopy()
			if _, counted := quota.Status.Hard[key]; !counted {
				left = quota.Spec.Hard[key].DeepCopy()
			}
			left.Sub(quota.Status.Used[key])
			if total.Cmp(left) > 0 {
				warnings = append(warnings, fmt.Sprintf("ResourceQuota %s has %s of %s left, but the pod needs %s, of which %s are for its sidecar; "+
					"want a larger quota, or smaller values for the sidecar: %s", quota.Name, left.String(), key, total.String(), part.String(), settings[of.resource]))
			}
		}
	}
	return warnings
}
