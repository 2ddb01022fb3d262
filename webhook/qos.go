package webhook

import (
	corev1 "k8s.io/api/core/v1"
	resourcehelper "k8s.io/component-helpers/resource"
)

// qosClass returns the QoS class that Kubernetes gives a pod: from the pod's own resources if it has any, else from all
// of its containers. A missing request equals the limit.
// https://kubernetes.io/docs/concepts/workloads/pods/pod-qos/
func qosClass(pod *corev1.Pod) corev1.PodQOSClass {
	if resourcehelper.IsPodLevelResourcesSet(pod) {
		return qosOf(*pod.Spec.Resources)
	}
	class := corev1.PodQOSClass("")
	for _, app := range appContainers(&pod.Spec) {
		switch one := qosOf(app.Resources); {
		case one == corev1.PodQOSBurstable, class != "" && class != one:
			return corev1.PodQOSBurstable
		default:
			class = one
		}
	}
	if class == "" {
		return corev1.PodQOSBestEffort
	}
	return class
}

func qosOf(r corev1.ResourceRequirements) corev1.PodQOSClass {
	class := corev1.PodQOSClass("")
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, limit := r.Requests[name], r.Limits[name]
		if _, ok := r.Requests[name]; !ok {
			request = limit
		}
		one := corev1.PodQOSBurstable
		switch {
		case request.IsZero() && limit.IsZero():
			one = corev1.PodQOSBestEffort
		case request.Equal(limit):
			one = corev1.PodQOSGuaranteed
		}
		if class != "" && class != one {
			return corev1.PodQOSBurstable
		}
		class = one
	}
	return class
}
