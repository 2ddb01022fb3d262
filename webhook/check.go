package webhook

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config"
)

// reservedPorts are the ports that Envoy and the agent listen on in the pod's network namespace.
var reservedPorts = []int32{config.OutboundPort, config.InboundPort, config.AgentPort}

func reservedPort(path *field.Path, port int32) *field.Error {
	return field.Invalid(path, port, fmt.Sprintf("the sidecar listens on %d, %d and %d; want another port",
		config.OutboundPort, config.InboundPort, config.AgentPort))
}

// checkContainers refuses containers that cannot work beside the sidecar.
func checkContainers(spec *corev1.PodSpec, apps []appContainer) field.ErrorList {
	var errs field.ErrorList
	if uid := podUser(spec); uid != nil && *uid == config.ProxyUID && usesPodUser(apps) {
		errs = append(errs, proxyUser(field.NewPath("spec", "securityContext")))
	}
	names := map[string]bool{}
	for _, app := range apps {
		errs = append(errs, checkName(app, names)...)
		if uid := containerUser(app); uid != nil && *uid == config.ProxyUID {
			errs = append(errs, proxyUser(app.path.Child("securityContext")))
		}
		for i, port := range app.Ports {
			// UDP is not captured, so its ports are free.
			if isTCP(port) && slices.Contains(reservedPorts, port.ContainerPort) {
				errs = append(errs, reservedPort(app.path.Child("ports").Index(i).Child("containerPort"), port.ContainerPort))
			}
		}
	}
	return errs
}

// checkName requires unique names, because probes are forwarded and changes are merged by the container's name.
// Kubernetes refuses other pods, too, but only after injection.
func checkName(app appContainer, seen map[string]bool) field.ErrorList {
	path := app.path.Child("name")
	if app.Name == "" {
		return field.ErrorList{field.Required(path, "")}
	}
	if seen[app.Name] {
		return field.ErrorList{field.Duplicate(path, app.Name)}
	}
	seen[app.Name] = true
	return nil
}

// proxyUser refuses the sidecar's user for other containers. The capture rules skip this user's traffic, so that Envoy
// does not capture its own.
func proxyUser(path *field.Path) *field.Error {
	return field.Invalid(path.Child("runAsUser"), config.ProxyUID,
		"traffic of the sidecar's own user is never captured; want another user")
}

func podUser(spec *corev1.PodSpec) *int64 {
	if spec.SecurityContext == nil {
		return nil
	}
	return spec.SecurityContext.RunAsUser
}

func containerUser(app appContainer) *int64 {
	if app.SecurityContext == nil {
		return nil
	}
	return app.SecurityContext.RunAsUser
}

func usesPodUser(apps []appContainer) bool {
	return slices.ContainsFunc(apps, func(app appContainer) bool { return containerUser(app) == nil })
}

func isTCP(port corev1.ContainerPort) bool {
	return port.Protocol == "" || port.Protocol == corev1.ProtocolTCP
}
