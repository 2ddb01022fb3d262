package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// target is what the command line names, as kubectl takes it: "cart", "cart.shop", "svc/cart", "deploy/cart.shop".
type target struct {
	// kind is one of kindNames' values; empty if only a name is given.
	kind string
	mesh.Key
}

// kindNames are kubectl's names of the allowed kinds.
var kindNames = map[string]string{
	"svc": "Service", "service": "Service", "services": "Service",
	"gtw": "Gateway", "gateway": "Gateway", "gateways": "Gateway",
	"gateway.gateway.networking.k8s.io": "Gateway", "gateways.gateway.networking.k8s.io": "Gateway",
	"po": "Pod", "pod": "Pod", "pods": "Pod",
	"deploy": "Deployment", "deployment": "Deployment", "deployments": "Deployment", "deployments.apps": "Deployment", "deployment.apps": "Deployment",
	"sts": "StatefulSet", "statefulset": "StatefulSet", "statefulsets": "StatefulSet", "statefulsets.apps": "StatefulSet", "statefulset.apps": "StatefulSet",
	"ds": "DaemonSet", "daemonset": "DaemonSet", "daemonsets": "DaemonSet", "daemonsets.apps": "DaemonSet", "daemonset.apps": "DaemonSet",
	"rs": "ReplicaSet", "replicaset": "ReplicaSet", "replicasets": "ReplicaSet", "replicasets.apps": "ReplicaSet", "replicaset.apps": "ReplicaSet",
	"job": "Job", "jobs": "Job", "jobs.batch": "Job", "job.batch": "Job",
	"cj": "CronJob", "cronjob": "CronJob", "cronjobs": "CronJob", "cronjobs.batch": "CronJob", "cronjob.batch": "CronJob",
}

const wantKind = "svc, deploy, sts, ds, rs, job, cronjob or pod"

// ofService is a name without a kind for commands that are about Services and Gateways, not about pods.
const ofService = "Service"

// parseTarget reads a name; what is the kind of a name without one. Names of pods and of most workloads may contain
// dots, but those of Services and namespaces do not. So the namespace begins after the first dot of a Service's name,
// and after the last dot of other names.
func (f *clusterFlags) parseTarget(text, what string, fallback func() string) (target, error) {
	t := target{}
	name := text
	if kind, rest, ok := strings.Cut(text, "/"); ok {
		want := wantKind
		if t.kind = kindNames[strings.ToLower(kind)]; what == ofService {
			want = "gateway, " + want
		} else if t.kind == string(mesh.KindGateway) {
			t.kind = ""
		}
		if t.kind == "" {
			return t, fmt.Errorf("%q: unknown kind %q; want %s", text, kind, want)
		}
		name = rest
	}
	of := t.kind
	if of == "" {
		of = what
	}
	t.Namespace, t.Name = f.namespace, name
	if of == "Service" {
		if service, rest, ok := strings.Cut(name, "."); ok { // also cart.shop.svc.cluster.local
			t.Name = service
			t.Namespace, _, _ = strings.Cut(rest, ".")
			if f.namespace != "" && t.Namespace != f.namespace {
				return t, fmt.Errorf("%s: namespace %q; want that of --namespace, %q", text, t.Namespace, f.namespace)
			}
		}
	} else if i := strings.LastIndex(name, "."); i > 0 && (f.namespace == "" || name[i+1:] == f.namespace) {
		t.Namespace, t.Name = name[i+1:], name[:i]
	}
	if t.Namespace == "" {
		t.Namespace = fallback()
	}
	if t.Name == "" || t.Namespace == "" || strings.Contains(t.Name, "/") {
		return t, fmt.Errorf("%q: want NAME, NAME.NAMESPACE or KIND/NAME, such as %s/cart", text, strings.ToLower(what))
	}
	return t, nil
}

func (t target) String() string { return t.kind + " " + t.Key.String() }

// podsOf returns the pods of a target: those of a workload, or those that a Service selects.
func podsOf(ctx context.Context, c client.Client, t target) ([]corev1.Pod, error) {
	opts := []client.ListOption{client.InNamespace(t.Namespace)}
	if t.kind == "Service" {
		var svc corev1.Service
		if err := c.Get(ctx, client.ObjectKey{Namespace: t.Namespace, Name: t.Name}, &svc); err != nil {
			return nil, fmt.Errorf("%s: %w", t, err)
		}
		if len(svc.Spec.Selector) == 0 {
			return nil, fmt.Errorf("%s has no selector, so it selects no pods", t)
		}
		opts = append(opts, client.MatchingLabels(svc.Spec.Selector))
	}
	var list corev1.PodList
	if err := c.List(ctx, &list, opts...); err != nil {
		return nil, fmt.Errorf("list Pods in namespace %s: %w", t.Namespace, err)
	}
	pods := slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return !t.means(&p) })
	if len(pods) == 0 {
		return nil, fmt.Errorf("%s has no pods in namespace %s, or does not exist", strings.TrimSpace(t.kind+" "+t.Name), t.Namespace)
	}
	slices.SortFunc(pods, func(a, b corev1.Pod) int { return strings.Compare(a.Name, b.Name) })
	return pods, nil
}

func (t target) means(p *corev1.Pod) bool {
	switch t.kind {
	case "Service":
		return true // the selector has chosen it
	case "Pod":
		return p.Name == t.Name
	case "ReplicaSet", "Job": // which stand between a pod and its Deployment or CronJob
		return slices.ContainsFunc(p.OwnerReferences, func(o metav1.OwnerReference) bool { return o.Kind == t.kind && o.Name == t.Name })
	}
	return webhook.Workload(p) == t.kind+"/"+t.Name
}

// onePod picks a running pod. If there are several, it names the chosen one on stderr.
func onePod(ctx context.Context, c client.Client, t target, stderr io.Writer) (mesh.Key, error) {
	if t.kind == "" || t.kind == "Pod" {
		return t.Key, nil
	}
	pods, err := podsOf(ctx, c, t)
	if err != nil {
		return mesh.Key{}, err
	}
	chosen := max(0, slices.IndexFunc(pods, func(p corev1.Pod) bool { return p.Status.Phase == corev1.PodRunning && p.DeletionTimestamp == nil }))
	if len(pods) > 1 {
		if _, err := fmt.Fprintf(stderr, "note: %s has %s; this is %s\n", t, plural(len(pods), "pod"), pods[chosen].Name); err != nil {
			return mesh.Key{}, err
		}
	}
	return mesh.Key{Namespace: t.Namespace, Name: pods[chosen].Name}, nil
}

// servicesFor returns the Services that select a target's pods.
func (o *routesOptions) servicesFor(ctx context.Context, w *world, t target) ([]mesh.Key, error) {
	if len(o.files) > 0 {
		return nil, fmt.Errorf("%s: want a Service with -f, because only a cluster has a workload's pods", t)
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return nil, err
	}
	pods, err := podsOf(ctx, c, t)
	if err != nil {
		return nil, err
	}
	var keys []mesh.Key
	for _, key := range w.servicesOf(t.Namespace) {
		selector := w.source[key].Spec.Selector
		if len(selector) > 0 && slices.ContainsFunc(pods, func(p corev1.Pod) bool {
			return labels.SelectorFromSet(selector).Matches(labels.Set(p.Labels))
		}) {
			keys = append(keys, key)
		}
	}
	if len(keys) == 0 {
		return nil, errors.New(t.String() + ": no Service selects its pods" + w.others(t.Namespace))
	}
	return keys, nil
}
