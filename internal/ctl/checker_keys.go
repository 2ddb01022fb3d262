package ctl

import (
	"encoding/json"
	"fmt"
	"strings"

	yamlv3 "go.yaml.in/yaml/v3"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/webhook"
)

// template is the pod template of a workload in the files.
type template struct {
	namespace string
	corev1.PodTemplateSpec
}

// keyed reads an object of which only the keys matter: a namespace or a workload. It reports whether the object is one.
func (r *reading) keyed(file string, node *yamlv3.Node, gvk schema.GroupVersionKind, asJSON []byte, namespace string) bool {
	path, workload := templates[gvk.GroupKind()]
	isNamespace := gvk == corev1.SchemeGroupVersion.WithKind("Namespace")
	if !workload && !isNamespace {
		return false
	}
	u := &unstructured.Unstructured{}
	if err := json.Unmarshal(asJSON, &u.Object); err != nil {
		return false
	}
	o := &fileObject{Object: u, kind: gvk.Kind, file: file, node: node}
	if workload && o.GetNamespace() == "" {
		o.SetNamespace(namespace)
	}
	if o.GetName() == "" {
		o.SetName(o.GetGenerateName() + "*")
	}
	r.objects = append(r.objects, o)
	switch {
	case isNamespace:
		r.mistakes(o, "metadata", config.KeyMistakes(config.OnNamespace, u.GetLabels(), u.GetAnnotations()), severityError)
		return true
	case len(path) > 0:
		r.mistakes(o, "metadata", config.Misplaced(u.GetLabels(), u.GetAnnotations()), severityWarning)
	}
	t, err := templateOf(u, path)
	if err != nil {
		return true // kubectl says what is wrong with it
	}
	t.namespace = o.GetNamespace()
	r.templates = append(r.templates, t)
	r.mistakes(o, strings.Join(append(path[:len(path):len(path)], "metadata"), "."),
		config.KeyMistakes(config.OnPod, t.Labels, t.Annotations), severityError)
	return true
}

func templateOf(u *unstructured.Unstructured, path []string) (template, error) {
	object, found, err := unstructured.NestedMap(u.Object, path...)
	if err != nil || !found {
		return template{}, fmt.Errorf("no pod template at %s", strings.Join(path, "."))
	}
	raw, err := json.Marshal(object)
	if err != nil {
		return template{}, err
	}
	var t template
	err = json.Unmarshal(raw, &t.PodTemplateSpec)
	return t, err
}

func (r *reading) mistakes(o *fileObject, metadata string, found []config.Mistake, s severity) {
	for _, m := range found {
		field := fmt.Sprintf("%s.%ss[%s]", metadata, m.Kind, m.Name)
		r.findings = append(r.findings, o.finding(s, field, m.Value, m.Problem, m.Want))
	}
}

// pod returns a pod that the workload would make.
func (t template) pod() *corev1.Pod {
	return &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: t.namespace, Labels: t.Labels, Annotations: t.Annotations}, Spec: t.Spec}
}

// podSecurityField is the field with the Pod Security Standard that a namespace enforces.
const podSecurityField = "metadata.labels[pod-security.kubernetes.io/enforce]"

// checkPodSecurity reports namespaces that refuse every pod with a sidecar, and workloads in them.
func (c *checker) checkPodSecurity(o *fileObject, object *unstructured.Unstructured) {
	if o.kind == "Namespace" {
		labels := o.GetLabels()
		if why, want := webhook.RefusesCapture(labels); why != "" && labels[config.LabelInjection] == config.InjectionEnabled {
			c.add(o.finding(severityError, podSecurityField, "", why+": the API server will refuse its pods", want))
		}
		return
	}
	path := templates[object.GroupVersionKind().GroupKind()]
	labels := c.around.labels[o.GetNamespace()]
	why, want := webhook.RefusesCapture(labels)
	t, err := templateOf(object, path)
	if err != nil || why == "" {
		return
	}
	t.namespace = o.GetNamespace()
	if webhook.Decide(labels, t.pod(), config.SystemNamespace).Inject {
		c.add(o.finding(severityError, strings.Join(append(path[:len(path):len(path)], "spec"), "."), "", why+": the API server will refuse its pods", "in the Namespace "+want))
	}
}
