package webhook

import (
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mizzen-mesh/mizzen/config"
)

// drain delays SIGTERM to the application's containers, so that every caller's sidecar stops choosing the pod before
// the application stops listening. injected says that the pod already has its sidecar.
//
// The delay is part of the pod's grace period. drain lengthens the grace period by the delay only in pods of
// controllers: the API server refuses later changes of that field, so a second apply of a Pod would fail. In other pods
// the application keeps at least half of its grace period.
//
// Native sidecars of the application need no delay: Kubernetes stops them after the main containers. Jobs lose no time:
// preStop runs when a container is told to stop, not when it exits by itself. The sleep action needs Kubernetes 1.30
// (https://kep.k8s.io/3960); it works in images without a shell.
func drain(pod *corev1.Pod, delay time.Duration, injected bool, report *Report) {
	spec := &pod.Spec
	seconds, grace := int64(delay/time.Second), gracePeriod(spec)
	lengthen := fromTemplate(pod) && grace > 0
	if injected && slices.ContainsFunc(spec.Containers, func(c corev1.Container) bool { return sleepsBefore(c, seconds) }) {
		lengthen = false // already lengthened
	} else if most := grace / 2; seconds > most && !lengthen {
		report.Warnings = append(report.Warnings, fmt.Sprintf(
			"the drain delay of %ds (%s) is shortened to %ds, half of terminationGracePeriodSeconds", seconds, config.AnnotationDrainDelay, most))
		seconds = most
	}
	if seconds == 0 {
		return
	}
	for i := range spec.Containers {
		c := &spec.Containers[i]
		if c.Lifecycle != nil && c.Lifecycle.PreStop != nil {
			continue
		}
		if c.Lifecycle == nil {
			c.Lifecycle = &corev1.Lifecycle{}
		}
		c.Lifecycle.PreStop = &corev1.LifecycleHandler{Sleep: &corev1.SleepAction{Seconds: seconds}}
		report.Drained = append(report.Drained, c.Name)
		report.DrainSeconds = seconds
	}
	if lengthen && len(report.Drained) > 0 {
		spec.TerminationGracePeriodSeconds = new(grace + seconds)
	}
}

// sleepsBefore reports whether the container has the hook that drain adds.
func sleepsBefore(c corev1.Container, seconds int64) bool {
	return c.Lifecycle != nil && c.Lifecycle.PreStop != nil && c.Lifecycle.PreStop.Sleep != nil && c.Lifecycle.PreStop.Sleep.Seconds == seconds
}

// fromTemplate reports whether one of Kubernetes' own controllers makes the pod from a template. These controllers
// never compare a pod with its template. Operators may, and people apply a Pod again. A template by itself has no name.
func fromTemplate(pod *corev1.Pod) bool {
	owner := metav1.GetControllerOf(pod)
	if owner == nil {
		return pod.Name == "" && pod.GenerateName == ""
	}
	switch schema.FromAPIVersionAndKind(owner.APIVersion, owner.Kind).GroupKind() {
	case schema.GroupKind{Group: appsv1.GroupName, Kind: "ReplicaSet"},
		schema.GroupKind{Group: appsv1.GroupName, Kind: "StatefulSet"},
		schema.GroupKind{Group: appsv1.GroupName, Kind: "DaemonSet"},
		schema.GroupKind{Group: batchv1.GroupName, Kind: "Job"},
		schema.GroupKind{Kind: "ReplicationController"}:
		return true
	}
	return false
}
