// Package sidecar finds out whether a pod has a sidecar, and reads the sidecar's settings (contract). The webhook, the
// control plane and mizzenctl all use it, so that they always agree.
//
// It may import config and contract. container.go has what the injector and internal/gateway put into a
// container alike.
//
// The answer comes from the containers in the pod's spec, because these run, and nobody can change them after the pod's
// creation. Annotations and labels can be patched, or be lost when the pod is copied.
package sidecar

import (
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// Containers are the containers of a sidecar, as indices of the pod's init containers. Capture is -1 if the node's CNI
// plugin captures the traffic.
type Containers struct{ Capture, Proxy int }

// Find finds the sidecar in a pod's spec: a capture container and a native sidecar, or a native sidecar alone that
// waits for the node's CNI plugin to capture the traffic. Names alone are not enough, because anybody may use them.
//
// It reads names, arguments and restart policies of init containers. Code that strips pods must keep these.
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
	return found, found.Proxy >= 0 && (found.Capture >= 0 || byCNI(&spec.InitContainers[found.Proxy]))
}

// Captured returns the capture settings of a pod with a sidecar. They are in the arguments of the capture container, or
// of the proxy if the node's CNI plugin captures. It leaves bad values out, and reports them.
func Captured(spec *corev1.PodSpec) (contract.Captured, error) {
	found, ok := Find(spec)
	switch {
	case !ok:
		return contract.Captured{}, nil
	case found.Capture >= 0:
		return contract.ReadCaptured(spec.InitContainers[found.Capture].Args)
	default:
		return contract.ReadCaptured(spec.InitContainers[found.Proxy].Args)
	}
}

// TrustBundle returns the mesh's roots from a pod's injection, and false if the pod has no sidecar, or its sidecar
// has no identity.
func TrustBundle(spec *corev1.PodSpec) (string, bool) {
	return variable(spec, contract.TrustBundleEnv)
}

// Revision returns the revision of the control plane that has injected a pod; empty for the main one, and for a pod without a
// sidecar.
func Revision(spec *corev1.PodSpec) string {
	revision, _ := variable(spec, contract.RevisionEnv)
	return revision
}

// variable returns one of the proxy's, and false if there is none.
func variable(spec *corev1.PodSpec, name string) (string, bool) {
	if proxy := Proxy(spec); proxy != nil {
		for _, e := range proxy.Env {
			if e.Name == name {
				return e.Value, true
			}
		}
	}
	return "", false
}

// CapturedByCNI reports whether the node's CNI plugin captures the pod's traffic.
func CapturedByCNI(pod *corev1.Pod) bool {
	found, _ := Find(&pod.Spec)
	return Has(pod) && found.Capture < 0
}

// Has reports whether a pod's traffic goes through a sidecar. It never does for a pod on its node's network.
func Has(pod *corev1.Pod) bool {
	_, ok := Find(&pod.Spec)
	return ok && !pod.Spec.HostNetwork
}

// Proxy returns the sidecar's container that keeps running; nil for a pod without a sidecar.
func Proxy(spec *corev1.PodSpec) *corev1.Container {
	if found, ok := Find(spec); ok {
		return &spec.InitContainers[found.Proxy]
	}
	return nil
}

// Capture returns the capture container, which ends; nil for a pod without one.
func Capture(spec *corev1.PodSpec) *corev1.Container {
	if found, ok := Find(spec); ok && found.Capture >= 0 {
		return &spec.InitContainers[found.Capture]
	}
	return nil
}

// App is a container of the application, with its position in the pod.
type App struct {
	*corev1.Container
	// Init is set for one of spec.initContainers. Index is its index there or in spec.containers.
	Init  bool
	Index int
}

// Apps returns all containers but the sidecar's, init containers first. They point into spec.
func Apps(spec *corev1.PodSpec) []App {
	found, injected := Find(spec)
	apps := make([]App, 0, len(spec.InitContainers)+len(spec.Containers))
	for i := range spec.InitContainers {
		if !injected || (i != found.Capture && i != found.Proxy) {
			apps = append(apps, App{&spec.InitContainers[i], true, i})
		}
	}
	for i := range spec.Containers {
		apps = append(apps, App{&spec.Containers[i], false, i})
	}
	return apps
}

// Servers returns the application's containers that keep running, in the order in which Services look for named ports:
// native sidecars come last.
func Servers(spec *corev1.PodSpec) []*corev1.Container {
	var main, native []*corev1.Container
	for _, app := range Apps(spec) {
		switch {
		case !app.Init:
			main = append(main, app.Container)
		case isNative(app.Container):
			native = append(native, app.Container)
		}
	}
	return append(main, native...)
}

func isCapture(c *corev1.Container) bool {
	return c.Name == config.CaptureContainer && len(c.Args) > 0 && c.Args[0] == contract.CaptureCommand
}

func byCNI(c *corev1.Container) bool { return contract.IsOn(c.Args, contract.CaptureByCNIFlag) }

func isProxy(c *corev1.Container) bool {
	return c.Name == config.ProxyContainer && len(c.Args) > 0 && c.Args[0] == contract.RunCommand && isNative(c)
}

// isNative reports whether an init container is a native sidecar, which keeps running beside the others.
// https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
func isNative(c *corev1.Container) bool {
	return c.RestartPolicy != nil && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways
}
