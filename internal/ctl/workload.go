package ctl

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	sjson "sigs.k8s.io/json"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/version"
	"github.com/mizzen-mesh/mizzen/webhook"
)

// templates says where a workload holds its pod template. A Pod is its own.
var templates = map[schema.GroupKind][]string{
	{Kind: "Pod"}:                        {},
	{Kind: "PodTemplate"}:                {"template"},
	{Kind: "ReplicationController"}:      {"spec", "template"},
	{Group: "apps", Kind: "Deployment"}:  {"spec", "template"},
	{Group: "apps", Kind: "StatefulSet"}: {"spec", "template"},
	{Group: "apps", Kind: "DaemonSet"}:   {"spec", "template"},
	{Group: "apps", Kind: "ReplicaSet"}:  {"spec", "template"},
	{Group: "batch", Kind: "Job"}:        {"spec", "template"},
	{Group: "batch", Kind: "CronJob"}:    {"spec", "jobTemplate", "spec", "template"},
}

// injection is what workloads are given.
type injection struct {
	mesh *config.Mesh
	// trustBundle holds the mesh's roots in PEM; empty is a mesh without identity.
	trustBundle []byte
	// probeKey is that of forwarded probes.
	probeKey string
}

// document gives the document with sidecars, and a note for each workload that it held. A
// document in which nothing changes comes back as it is, also one that is no Kubernetes object.
func (in injection) document(doc []byte) ([]byte, []string, error) {
	if isBlank(doc) {
		return doc, nil, nil
	}
	asJSON, err := yaml.YAMLToJSONStrict(doc)
	if err != nil {
		return nil, nil, err
	}
	var content any
	if err := sjson.UnmarshalCaseSensitivePreserveInts(asJSON, &content); err != nil {
		return nil, nil, err
	}
	object, ok := content.(map[string]any)
	if !ok {
		return doc, nil, nil
	}
	notes, changed, err := in.object(object)
	if err != nil || !changed {
		return doc, notes, err
	}
	out, err := yaml.Marshal(object)
	if err != nil {
		return nil, notes, err
	}
	return append(head(doc)[:len(head(doc)):len(head(doc))], out...), notes, nil
}

// object changes the object in place.
func (in injection) object(object map[string]any) (notes []string, changed bool, err error) {
	u := unstructured.Unstructured{Object: object}
	if u.GetKind() == "List" {
		return in.list(object)
	}
	path, ok := templates[u.GroupVersionKind().GroupKind()]
	if !ok {
		return nil, false, nil
	}
	name := strings.TrimPrefix(u.GetNamespace()+"/"+u.GetName()+u.GetGenerateName(), "/")
	label := fmt.Sprintf("%s %s", u.GetKind(), name)
	result, template, err := in.template(u, path)
	if err != nil {
		return nil, false, fmt.Errorf("%s: %w", label, err)
	}
	for _, line := range result {
		notes = append(notes, label+": "+line)
	}
	if template == nil {
		return notes, false, nil
	}
	if len(path) > 0 {
		err := unstructured.SetNestedMap(object, template, path...)
		return notes, err == nil, err
	}
	for key, value := range template {
		object[key] = value
	}
	return notes, true, nil
}

func (in injection) list(list map[string]any) (notes []string, changed bool, err error) {
	items, _ := list["items"].([]any)
	var errs []error
	for i, item := range items {
		object, ok := item.(map[string]any)
		if !ok {
			continue
		}
		itemNotes, itemChanged, err := in.object(object)
		if err != nil {
			errs = append(errs, fmt.Errorf("items[%d]: %w", i, err))
		}
		notes = append(notes, itemNotes...)
		changed = changed || itemChanged
	}
	return notes, changed, errors.Join(errs...)
}

// template gives what to tell, and the pod template with its sidecar; nil if it gets none.
func (in injection) template(u unstructured.Unstructured, path []string) ([]string, map[string]any, error) {
	template, found, err := unstructured.NestedFieldNoCopy(u.Object, path...)
	if err != nil || !found {
		return nil, nil, fmt.Errorf("no pod template at %s", strings.Join(path, "."))
	}
	raw, err := json.Marshal(template)
	if err != nil {
		return nil, nil, err
	}
	pod := &corev1.Pod{} // a pod template is a pod without name and status
	if err := sjson.UnmarshalCaseSensitivePreserveInts(raw, pod); err != nil {
		return nil, nil, err
	}
	pod.Namespace = u.GetNamespace()
	if slices.Contains(path, "spec") && u.GetName() != "" {
		// As in the cluster: Inject tells the workload from the pod's owner. Merge leaves it out again,
		// as it is the same before and after.
		pod.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(&u, u.GroupVersionKind())}
	}
	enabled := map[string]string{config.LabelInjection: config.InjectionEnabled}
	decision := webhook.Decide(enabled, pod, config.SystemNamespace)
	if decision.Remove(pod) {
		without, err := webhook.Remove(pod)
		if err != nil {
			return nil, nil, err
		}
		out, err := mergeTemplate(raw, pod, without)
		return []string{fmt.Sprintf("removed the sidecar: %s (%s)", decision.Reason, decision.Reason.Explain())}, out, err
	}
	if !decision.Inject {
		return []string{skipped(decision.Reason)}, nil, nil
	}
	injected, report, err := webhook.Inject(pod, webhook.Namespace{}, in.mesh, version.Version, in.trustBundle, in.probeKey)
	if err != nil {
		return nil, nil, err
	}
	if !report.Changed {
		return []string{skipped(webhook.AlreadyInjected)}, nil, nil
	}
	out, err := mergeTemplate(raw, pod, injected)
	return describe(report), out, err
}

func mergeTemplate(raw []byte, before, after *corev1.Pod) (map[string]any, error) {
	merged, err := webhook.Merge(raw, before, after)
	if err != nil {
		return nil, err
	}
	var out map[string]any
	err = sjson.UnmarshalCaseSensitivePreserveInts(merged, &out)
	return out, err
}

func skipped(reason webhook.Reason) string {
	return fmt.Sprintf("skipped: %s (%s)", reason, reason.Explain())
}

func describe(report webhook.Report) []string {
	line := "injected"
	if report.MadeAnew {
		line += ", in place of another sidecar"
	}
	if n := len(report.Forwarded); n > 0 {
		line += fmt.Sprintf(", probes and hooks forwarded: %d", n)
	}
	if len(report.Drained) > 0 {
		line += fmt.Sprintf(", drain delay of %ds for %s", report.DrainSeconds, strings.Join(report.Drained, ", "))
	}
	lines := []string{line}
	for _, warning := range report.Warnings {
		lines = append(lines, "warning: "+warning)
	}
	return lines
}
