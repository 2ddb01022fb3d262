package world

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// podsOfBench is the label of the two pods.
const podsOfBench = "bench"

// policiesOf returns AuthorizationPolicies of the two pods that say the same.
func policiesOf(policies []mesh.Policy) []client.Object {
	var out []client.Object
	for _, p := range policies {
		_, name, _ := strings.Cut(p.Name, "/")
		o := &v1alpha1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}}
		o.Spec.PodSelector.MatchLabels = map[string]v1alpha1.LabelValue{podsOfBench: "true"}
		o.Spec.DryRun, o.Spec.Action = p.DryRun, v1alpha1.Allow
		if p.Deny {
			o.Spec.Action = v1alpha1.Deny
		}
		for _, r := range p.Rules {
			o.Spec.Rules = append(o.Spec.Rules, ruleOf(r))
		}
		out = append(out, o)
	}
	return out
}

func ruleOf(r mesh.CallRule) v1alpha1.Rule {
	var out v1alpha1.Rule
	for _, from := range r.From {
		peer := v1alpha1.Peer{Namespace: from.Namespace}
		if from.ServiceAccount != "" {
			peer = v1alpha1.Peer{ServiceAccount: &v1alpha1.ServiceAccount{Namespace: from.Namespace, Name: from.ServiceAccount}}
		}
		out.From = append(out.From, peer)
	}
	for _, port := range r.Ports {
		out.Ports = append(out.Ports, int32(port))
	}
	for _, m := range r.HTTP {
		out.HTTP = append(out.HTTP, v1alpha1.HTTPMatch{Methods: m.Methods})
	}
	return out
}

// declares is a Service by which the two pods speak HTTP at these ports.
func declares(ports []uint16) *corev1.Service {
	s := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: "declares"}}
	s.Spec.ClusterIP, s.Spec.ClusterIPs, s.Spec.Selector = corev1.ClusterIPNone, []string{corev1.ClusterIPNone}, map[string]string{podsOfBench: "true"}
	for _, port := range ports {
		s.Spec.Ports = append(s.Spec.Ports, Port(fmt.Sprintf("http-%d", port), int32(port), int32(port)))
	}
	return s
}
