package ctl

import (
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

// redacted stands for what may be a secret.
const redacted = "[redacted]"

// isOurs reports whether a container is Mizzen's.
func isOurs(container string) bool { return strings.HasPrefix(container, "mizzen-") }

// redactedPod returns a pod with the containers whose names begin with this, and without what may be a secret.
func redactedPod(source *corev1.Pod, containers string) *corev1.Pod {
	p := source.DeepCopy()
	p.APIVersion, p.Kind = "v1", "Pod"
	redactMeta(p)
	p.Spec.InitContainers = redactedContainers(p.Spec.InitContainers, containers)
	p.Spec.Containers = redactedContainers(p.Spec.Containers, containers)
	p.Spec.EphemeralContainers = nil
	return p
}

func redactedContainers(all []corev1.Container, names string) []corev1.Container {
	out := []corev1.Container{}
	for _, c := range all {
		if !strings.HasPrefix(c.Name, names) {
			continue
		}
		for i := range c.Env {
			c.Env[i] = corev1.EnvVar{Name: c.Env[i].Name, Value: redacted}
		}
		out = append(out, c)
	}
	return out
}

// redactMeta keeps the annotations that mean something to Mizzen. Others may hold anything, such as the whole object as it was applied.
func redactMeta(o metav1.Object) {
	o.SetManagedFields(nil)
	maps.DeleteFunc(o.GetAnnotations(), func(key, _ string) bool {
		return !strings.Contains(key, "mizzen.dev/") && !strings.Contains(key, gatewayv1.GroupName+"/")
	})
}

// redactedList returns the objects of a list as YAML, and their number.
func redactedList(list client.ObjectList) (content []byte, n int, err error) {
	items, err := apimeta.ExtractList(list)
	if err != nil {
		return nil, 0, err
	}
	for _, item := range items {
		object, err := runtime.DefaultUnstructuredConverter.ToUnstructured(item)
		if err != nil {
			return nil, 0, err
		}
		redactValues(object["spec"])
		o, err := apimeta.Accessor(item)
		if err != nil {
			return nil, 0, err
		}
		redactMeta(o)
		object["metadata"] = map[string]any{
			"name": o.GetName(), "namespace": o.GetNamespace(), "generation": o.GetGeneration(), "creationTimestamp": o.GetCreationTimestamp(),
			"labels": o.GetLabels(), "annotations": o.GetAnnotations(),
		}
		text, err := yaml.Marshal(object)
		if err != nil {
			return nil, 0, err
		}
		content = append(append(content, "---\n"...), text...)
	}
	return content, len(items), nil
}

// redactValues replaces the values of what has a name and a value, as headers and query parameters of routes have: they may hold
// keys, and their names say enough.
func redactValues(of any) {
	switch of := of.(type) {
	case []any:
		for _, item := range of {
			redactValues(item)
		}
	case map[string]any:
		if _, named := of["name"]; named && of["value"] != nil {
			of["value"] = redacted
		}
		for _, item := range of {
			redactValues(item)
		}
	}
}
