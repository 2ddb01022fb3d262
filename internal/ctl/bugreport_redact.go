package ctl

import (
	"bytes"
	"maps"
	"regexp"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
)

// redacted stands for what may be a secret.
const redacted = "[redacted]"

// sidecarContainers are Mizzen's in a pod of the mesh or of a Gateway, and controllerContainers those of the control plane.
var (
	sidecarContainers    = []string{config.ProxyContainer, config.CaptureContainer}
	controllerContainers = []string{"controller"}
)

// redactedPod returns a pod with these containers, and without what may be a secret.
func redactedPod(source *corev1.Pod, containers []string) *corev1.Pod {
	p := source.DeepCopy()
	p.APIVersion, p.Kind = "v1", "Pod"
	redactMeta(p)
	p.Spec.InitContainers = redactedContainers(p.Spec.InitContainers, containers)
	p.Spec.Containers = redactedContainers(p.Spec.Containers, containers)
	p.Spec.EphemeralContainers = nil
	for i := range p.Spec.Volumes {
		p.Spec.Volumes[i] = corev1.Volume{Name: p.Spec.Volumes[i].Name}
	}
	// A status may have the end of a container's log.
	others := func(s corev1.ContainerStatus) bool { return !slices.Contains(containers, s.Name) }
	p.Status.InitContainerStatuses = slices.DeleteFunc(p.Status.InitContainerStatuses, others)
	p.Status.ContainerStatuses = slices.DeleteFunc(p.Status.ContainerStatuses, others)
	p.Status.EphemeralContainerStatuses = nil
	return p
}

func redactedContainers(all []corev1.Container, names []string) []corev1.Container {
	out := []corev1.Container{}
	for _, c := range all {
		if !slices.Contains(names, c.Name) {
			continue
		}
		for i := range c.Env {
			c.Env[i] = corev1.EnvVar{Name: c.Env[i].Name, Value: redacted}
		}
		out = append(out, c)
	}
	return out
}

// redactedLog leaves out what Envoy logs at its levels debug and trace: whole headers of requests.
func redactedLog(log []byte) []byte {
	var out []byte
	for line := range bytes.Lines(log) {
		if !headersOfRequests.Match(line) {
			out = append(out, line...)
		}
	}
	return out
}

// headersOfRequests matches such lines (internal/agent/envoy.go has the format, in which a message is one line).
var headersOfRequests = regexp.MustCompile(`level=(debug|trace) source=envoy`)

// means reports whether a key of an annotation or an option is Mizzen's or the Gateway API's.
func means(key string) bool {
	domain, _, _ := strings.Cut(key, "/")
	return domain == config.Group || strings.HasSuffix(domain, "."+config.Group) || domain == gatewayv1.GroupName
}

// redactMeta keeps the annotations that mean something to Mizzen. Others may hold anything, such as the whole object as it was applied.
func redactMeta(o metav1.Object) {
	o.SetManagedFields(nil)
	maps.DeleteFunc(o.GetAnnotations(), func(key, _ string) bool { return !means(key) })
}

// redactedList returns the objects of a list as YAML, and their number.
func redactedList(list client.ObjectList, scheme *runtime.Scheme) (content []byte, n int, err error) {
	items, err := apimeta.ExtractList(list)
	if err != nil {
		return nil, 0, err
	}
	for _, item := range items {
		kind, err := apiutil.GVKForObject(item, scheme)
		if err != nil {
			return nil, 0, err
		}
		o, err := apimeta.Accessor(item)
		if err != nil {
			return nil, 0, err
		}
		redactMeta(o)
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(item)
		if err != nil {
			return nil, 0, err
		}
		redactValues(object["spec"])
		redactMessages(object["status"])
		object["apiVersion"], object["kind"] = kind.GroupVersion().String(), kind.Kind
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, 0, err
		}
		content = append(append(content, "---\n"...), text...)
	}
	return content, len(items), nil
}

// redactValues replaces the values of what has a name and a value, as headers and query parameters of routes have: they may hold
// keys, and their names say enough. Of annotations and options it keeps those that mean something to Mizzen.
func redactValues(of any) {
	each(of, func(fields map[string]any) {
		if _, named := fields["name"]; named && fields["value"] != nil {
			fields["value"] = redacted
		}
		for _, name := range []string{"annotations", "options"} {
			if keys, ok := fields[name].(map[string]any); ok {
				maps.DeleteFunc(keys, func(key string, _ any) bool { return !means(key) })
			}
		}
	})
}

// quoted is a value that a message repeats.
var quoted = regexp.MustCompile(`"(\\.|[^"\\])*"`)

// redactMessages replaces the values that messages of conditions repeat.
func redactMessages(of any) {
	each(of, func(fields map[string]any) {
		if message, ok := fields["message"].(string); ok {
			fields["message"] = quoted.ReplaceAllString(message, `"`+redacted+`"`)
		}
	})
}

// each calls f with every map of a value.
func each(of any, f func(map[string]any)) {
	switch of := of.(type) {
	case []any:
		for _, item := range of {
			each(item, f)
		}
	case map[string]any:
		f(of)
		for _, item := range of {
			each(item, f)
		}
	}
}
