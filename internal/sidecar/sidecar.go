// Package sidecar tells whether a pod has a sidecar. The webhook, the control plane and mizzenctl all ask here, so that
// none of them takes a pod for one without where another does not.
//
// The answer comes from the pod's spec. Its containers are what runs, and nobody can change them once the pod is there;
// annotations and labels may be changed by whoever may patch the pod, or be lost when it is copied.
package sidecar

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Containers are those of a sidecar, as indices of the pod's init containers.
type Containers struct{ Capture, Proxy int }

// Find finds the sidecar in a pod's spec: one container that captures the traffic, and a native sidecar that takes it.
// Names alone are not enough: anybody may give a container that name.
//
// It reads names, arguments and restart policies of init containers; whoever strips pods must leave these.
func Find(spec *corev1.PodSpec) (Containers, bool) {
	found := Containers{Capture: -1, Proxy: -1}
	for i := range spec.InitContainers {
		switch c := &spec.InitContainers[i]; {
		case found.Capture < 0 && isCapture(c):
			found.Capture = i
		case found.Proxy < 0 && isProxy(c):
			found.Proxy = i
		}
	}
	return found, found.Capture >= 0 && found.Proxy >= 0
}

// Has reports whether a pod's traffic goes through a sidecar. That of a pod on its node's network never does.
func Has(pod *corev1.Pod) bool {
	_, ok := Find(&pod.Spec)
	return ok && !pod.Spec.HostNetwork
}

func isCapture(c *corev1.Container) bool {
	return c.Name == config.CaptureContainer && len(c.Args) > 0 && c.Args[0] == "capture"
}

func isProxy(c *corev1.Container) bool {
	return c.Name == config.ProxyContainer && len(c.Args) > 0 && c.Args[0] == "run" &&
		c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
