package ctl

import (
	"context"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/apimachinery/pkg/util/sets"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// inhabitants are the objects to which AuthorizationPolicies refer, as far as known: pods of the cluster, and pods that
// workloads of the files would make.
type inhabitants struct {
	pods []*corev1.Pod
	// accounts and namespaces of the cluster; nil if they are unknown.
	accounts   sets.Set[mesh.Key]
	namespaces sets.Set[string]
	// labels of namespaces, as far as known.
	labels   map[string]map[string]string
	policies []*v1alpha1.AuthorizationPolicy
	services []*corev1.Service
}

// readInhabitants reads the inhabitants from the cluster, without those that the user may not read.
func readInhabitants(ctx context.Context, c client.Client) (inhabitants, error) {
	var out inhabitants
	var pods corev1.PodList
	var accounts corev1.ServiceAccountList
	var namespaces corev1.NamespaceList
	var policies v1alpha1.AuthorizationPolicyList
	if err := listOptional(ctx, c, &policies, "AuthorizationPolicies"); err != nil && !apierrors.IsForbidden(err) {
		return out, err
	}
	out.policies = pointers(policies.Items)
	for list, take := range map[client.ObjectList]func(){
		&pods: func() { out.pods = pointers(pods.Items) },
		&accounts: func() {
			out.accounts = sets.Set[mesh.Key]{}
			for _, a := range accounts.Items {
				out.accounts.Insert(mesh.Key{Namespace: a.Namespace, Name: a.Name})
			}
		},
		&namespaces: func() {
			out.namespaces, out.labels = sets.Set[string]{}, map[string]map[string]string{}
			for _, n := range namespaces.Items {
				out.namespaces.Insert(n.Name)
				out.labels[n.Name] = n.Labels
			}
		},
	} {
		switch err := c.List(ctx, list); {
		case err == nil:
			take()
		case !apierrors.IsForbidden(err):
			return out, err
		}
	}
	return out, nil
}

// with adds the objects of the files.
func (i inhabitants) with(r reading) inhabitants {
	out := inhabitants{pods: slices.Clone(i.pods), labels: map[string]map[string]string{}}
	maps.Copy(out.labels, i.labels)
	if i.accounts != nil {
		out.accounts = i.accounts.Clone()
	}
	if i.namespaces != nil {
		out.namespaces = i.namespaces.Clone()
	}
	for _, t := range r.templates {
		pod := t.pod()
		out.pods = append(out.pods, pod)
		if name := pod.Spec.ServiceAccountName; name != "" && out.accounts != nil {
			out.accounts.Insert(mesh.Key{Namespace: pod.Namespace, Name: name})
		}
	}
	held := sets.Set[mesh.Key]{}
	for _, o := range r.objects {
		switch object := o.Object.(type) {
		case *v1alpha1.AuthorizationPolicy:
			held.Insert(mesh.Key{Namespace: object.Namespace, Name: object.Name})
			out.policies = append(out.policies, object)
		default:
			if o.kind != "Namespace" {
				continue
			}
			out.labels[o.GetName()] = o.GetLabels()
			if out.namespaces != nil {
				out.namespaces.Insert(o.GetName())
			}
		}
	}
	for _, a := range r.accounts {
		if out.accounts != nil {
			out.accounts.Insert(a)
		}
	}
	for _, p := range i.policies {
		if !held.Has(mesh.Key{Namespace: p.Namespace, Name: p.Name}) {
			out.policies = append(out.policies, p)
		}
	}
	return out
}

// checkMeaning reports valid parts of a policy that have no effect, or more effect than expected.
func (c *checker) checkMeaning(o *fileObject, policy *v1alpha1.AuthorizationPolicy) {
	built := mesh.BuildPodPolicy(policy)
	pods := c.around.selected(built, policy.Namespace)
	switch {
	case len(pods) == 0 && len(c.around.pods) > 0:
		c.add(o.finding(severityWarning, "spec.podSelector", "", "podSelector matches no pod of the namespace, so the policy refuses nothing", ""))
	case !built.Policy.Deny && len(policy.Spec.Rules) == 0 && !c.around.allowed(policy, pods):
		c.add(o.finding(severityWarning, "spec.rules", "", "nobody may call these pods, because no Allow that selects them has a rule", "a rule, here or in another Allow"))
	}
	for i, rule := range policy.Spec.Rules {
		for j, from := range rule.From {
			c.checkPeer(o, fmt.Sprintf("spec.rules[%d].from[%d]", i, j), from, policy.Namespace)
		}
		for j, port := range rule.Ports {
			if want, wrong := c.around.portMistake(pods, port); wrong {
				c.add(o.finding(severityWarning, fmt.Sprintf("spec.rules[%d].ports[%d]", i, j), fmt.Sprint(port),
					"no container of the selected pods has this port, so no call can match", want))
			}
		}
	}
}

func (c *checker) checkPeer(o *fileObject, field string, from v1alpha1.Peer, namespace string) {
	account := from.ServiceAccount
	if account == nil {
		if from.Namespace != "" && c.around.namespaces != nil && !c.around.namespaces.Has(from.Namespace) {
			c.add(o.finding(severityWarning, field+".namespace", from.Namespace, "the namespace does not exist", ""))
		}
		return
	}
	key := mesh.Key{Namespace: account.Namespace, Name: account.Name}
	if key.Namespace == "" {
		key.Namespace = namespace
	}
	if c.around.accounts != nil && !c.around.accounts.Has(key) && key.Name != "default" { // Kubernetes makes that one
		c.add(o.finding(severityWarning, field+".serviceAccount", key.String(), "the ServiceAccount does not exist, so no caller can match", ""))
	}
}

func (i inhabitants) selected(policy mesh.PodPolicy, namespace string) []*corev1.Pod {
	var out []*corev1.Pod
	for _, p := range i.pods {
		if policy.Holds(&mesh.Pod{Key: mesh.Key{Namespace: p.Namespace, Name: p.Name}, Labels: p.Labels}) && p.Namespace == namespace {
			out = append(out, p)
		}
	}
	return out
}

// allowed reports whether, for each pod, another Allow than this one without rules allows somebody to call it. If no
// pods are known, it reports whether the namespace has such an Allow.
func (i inhabitants) allowed(policy *v1alpha1.AuthorizationPolicy, pods []*corev1.Pod) bool {
	lets := func(labelled labels.Set) bool {
		return slices.ContainsFunc(i.policies, func(o *v1alpha1.AuthorizationPolicy) bool {
			built := mesh.BuildPodPolicy(o)
			return o.Namespace == policy.Namespace && !built.Policy.Deny && len(built.Policy.Rules) > 0 && (!o.Spec.DryRun || policy.Spec.DryRun) &&
				(labelled == nil || built.Holds(&mesh.Pod{Key: mesh.Key{Namespace: o.Namespace}, Labels: labelled}))
		})
	}
	if len(pods) == 0 {
		return lets(nil)
	}
	return !slices.ContainsFunc(pods, func(p *corev1.Pod) bool { return !lets(labels.Set(p.Labels)) })
}

// portMistake reports whether all pods name their ports and none has this port. Containers need not name their ports,
// so it does not judge pods that do not.
func (i inhabitants) portMistake(pods []*corev1.Pod, port int32) (want string, wrong bool) {
	var known []uint16
	for _, p := range pods {
		named := containerPorts(p)
		if len(named) == 0 || slices.Contains(named, uint16(port)) || i.targets(p, port) {
			return "", false
		}
		known = append(known, named...)
	}
	if len(known) == 0 {
		return "", false
	}
	slices.Sort(known)
	return "a port on which a container listens, not the Service's: " + numbers(slices.Compact(known)), true
}

// targets reports whether a Service sends calls to this port of a pod.
func (i inhabitants) targets(p *corev1.Pod, port int32) bool {
	return slices.ContainsFunc(i.services, func(s *corev1.Service) bool {
		return s.Namespace == p.Namespace && len(s.Spec.Selector) > 0 && labels.SelectorFromSet(s.Spec.Selector).Matches(labels.Set(p.Labels)) &&
			slices.ContainsFunc(s.Spec.Ports, func(sp corev1.ServicePort) bool {
				return sp.TargetPort == intstr.FromInt32(port) || (sp.TargetPort == intstr.IntOrString{} && sp.Port == port)
			})
	})
}

func containerPorts(p *corev1.Pod) []uint16 {
	var out []uint16
	for _, app := range sidecar.Apps(&p.Spec) {
		for _, port := range app.Ports {
			if port.Protocol == "" || port.Protocol == corev1.ProtocolTCP {
				out = append(out, uint16(port.ContainerPort))
			}
		}
	}
	return out
}
