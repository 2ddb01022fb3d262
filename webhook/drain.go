package webhook

import (
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// drain makes the application's containers wait before their SIGTERM, so that every caller's sidecar
// has stopped choosing the pod before the application stops listening.
//
// Native sidecars of the application need none: Kubernetes stops them after the main containers. Jobs
// lose no time: preStop runs when a container is told to stop, not when it exits by itself.
// The sleep action needs Kubernetes 1.30 (https://kep.k8s.io/3960); it works in images without a shell.
func drain(spec *corev1.PodSpec, delay time.Duration, report *Report) {
	seconds := int64(delay / time.Second)
	// The application keeps at least half of the time it has to stop.
	if most := gracePeriod(spec) / 2; seconds > most {
		report.Warnings = append(report.Warnings, fmt.Sprintf(
			"the drain delay of %ds (%s) is cut to %ds, half of terminationGracePeriodSeconds", seconds, config.AnnotationDrainDelay, most))
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
}
