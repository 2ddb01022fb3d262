package webhook

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation/field"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// own is the result of an earlier injection in a pod; proxy is nil if there was none.
type own struct {
	proxy    *corev1.Container
	handlers actions
}

// key returns the key of the forwarded probes, or the given key if there is none.
func (o own) key(other string) string {
	if o.proxy != nil {
		if key := envValue(o.proxy, appprobe.KeyEnv); key != "" {
			return key
		}
	}
	return other
}

// mark returns the proxy's mark, which is empty for an older injection.
func (o own) mark() string {
	if o.proxy == nil {
		return ""
	}
	return envValue(o.proxy, markEnv)
}

func isOwnName(name string) bool {
	return name == config.CaptureContainer || name == config.ProxyContainer
}

// findOwn finds the sidecar's containers. It refuses other containers with their names, because accepting them could
// start the pod without its sidecar.
func findOwn(spec *corev1.PodSpec) (own, field.ErrorList) {
	var errs field.ErrorList
	for i, c := range spec.Containers {
		if isOwnName(c.Name) {
			errs = append(errs, reservedName(field.NewPath("spec", "containers").Index(i), c.Name))
		}
	}
	found, injected := sidecar.Find(spec)
	for i, c := range spec.InitContainers {
		if isOwnName(c.Name) && (!injected || (i != found.Capture && i != found.Proxy)) {
			errs = append(errs, reservedName(field.NewPath("spec", "initContainers").Index(i), c.Name))
		}
	}
	for i, v := range spec.Volumes {
		// A copy without the init containers still has our volumes.
		if (v.Name == config.ProxyVolume && v.EmptyDir == nil) || (v.Name == config.TokenVolume && v.Projected == nil) {
			errs = append(errs, reservedName(field.NewPath("spec", "volumes").Index(i), v.Name))
		}
	}
	errs = append(errs, checkMounts(spec)...)
	if !injected || len(errs) > 0 {
		return own{}, errs
	}
	c := &spec.InitContainers[found.Proxy]
	handlers, err := readActions(envValue(c, appprobe.EnvVar))
	if err != nil {
		errs = append(errs, field.Invalid(field.NewPath("spec", "initContainers").Index(found.Proxy).Child("env").Key(appprobe.EnvVar),
			envValue(c, appprobe.EnvVar), err.Error()))
	}
	return own{proxy: c, handlers: handlers}, errs
}

func reservedName(path *field.Path, name string) *field.Error {
	return field.Invalid(path.Child("name"), name, "reserved for the sidecar; want another name")
}

func envValue(c *corev1.Container, name string) string {
	for _, e := range c.Env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

// checkMounts refuses mounts of the sidecar's token or sockets in other containers, which could then impersonate the
// sidecar.
func checkMounts(spec *corev1.PodSpec) field.ErrorList {
	var errs field.ErrorList
	for _, app := range appContainers(spec) {
		for i, m := range app.VolumeMounts {
			if m.Name == config.TokenVolume || m.Name == config.ProxyVolume {
				errs = append(errs, reservedName(app.path.Child("volumeMounts").Index(i), m.Name))
			}
		}
	}
	return errs
}
