package ctl

import (
	"context"
	"errors"

	corev1 "k8s.io/api/core/v1"
	apimeta "k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
)

// unbalanced is the effect of socket load balancing.
const unbalanced = "calls to Services are not balanced, because sidecars see a pod's address in place of the Service's"

// felix is Calico's configuration as it is stored; the API of projectcalico.org has the same fields.
// https://docs.tigera.io/calico/latest/reference/resources/felixconfig
var felix = schema.GroupVersionKind{Group: "crd.projectcalico.org", Version: "v1", Kind: "FelixConfiguration"}

// checkSockets reports a kube-proxy replacement that translates Services' addresses in the sockets of pods. The error is about
// configurations that it could not read, unless they do not exist.
func checkSockets(ctx context.Context, c client.Client) (found []finding, err error) {
	add := func(object, field, value, want string) {
		found = append(found, finding{Severity: severityWarning, Object: object, Field: field, Value: value, Problem: unbalanced, Want: want + " (" + config.SocketLoadBalancingRemedy + ")"})
	}
	var cilium corev1.ConfigMap
	switch failed := c.Get(ctx, client.ObjectKey{Namespace: "kube-system", Name: "cilium-config"}, &cilium); {
	case failed != nil:
		err = client.IgnoreNotFound(failed)
	default:
		// https://docs.cilium.io/en/stable/network/kubernetes/kubeproxy-free/
		const hostOnly = "bpf-lb-sock-hostns-only"
		replaces := cilium.Data["kube-proxy-replacement"] == "true" || cilium.Data["kube-proxy-replacement"] == "strict"
		if (replaces || cilium.Data["bpf-lb-sock"] == "true") && cilium.Data[hostOnly] != "true" {
			add("ConfigMap kube-system/cilium-config", "data["+hostOnly+"]", cilium.Data[hostOnly], `"true"`)
		}
	}
	var calico unstructured.Unstructured
	calico.SetGroupVersionKind(felix)
	switch failed := c.Get(ctx, client.ObjectKey{Name: "default"}, &calico); {
	case apimeta.IsNoMatchError(failed):
	case failed != nil:
		err = errors.Join(err, client.IgnoreNotFound(failed))
	default:
		on, _, _ := unstructured.NestedBool(calico.Object, "spec", "bpfEnabled")
		balancing, _, _ := unstructured.NestedString(calico.Object, "spec", "bpfConnectTimeLoadBalancing")
		if on && balancing != "Disabled" {
			add("FelixConfiguration default", "spec.bpfConnectTimeLoadBalancing", balancing, `"Disabled"`)
		}
	}
	return found, err
}
