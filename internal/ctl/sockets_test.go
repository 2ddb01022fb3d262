package ctl

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/mizzen-mesh/mizzen/internal/kubescheme"
)

func TestCheckSockets(t *testing.T) {
	cilium := func(data map[string]string) client.Object {
		return &corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "cilium-config"}, Data: data}
	}
	calico := func(spec map[string]any) client.Object {
		u := &unstructured.Unstructured{Object: map[string]any{"metadata": map[string]any{"name": "default"}, "spec": spec}}
		u.SetGroupVersionKind(felix)
		return u
	}
	for name, c := range map[string]struct {
		there client.Object
		want  string // "<object> <field> <value>", empty for nothing
	}{
		"Cilium beside kube-proxy":                      {cilium(map[string]string{"kube-proxy-replacement": "false", "bpf-lb-sock": "false"}), ""},
		"Cilium in place of kube-proxy":                 {cilium(map[string]string{"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "false"}), "ConfigMap kube-system/cilium-config data[bpf-lb-sock-hostns-only] false"},
		"as it was called before 1.14":                  {cilium(map[string]string{"kube-proxy-replacement": "strict"}), "ConfigMap kube-system/cilium-config data[bpf-lb-sock-hostns-only] "},
		"Cilium's sockets alone":                        {cilium(map[string]string{"kube-proxy-replacement": "false", "bpf-lb-sock": "true"}), "ConfigMap kube-system/cilium-config data[bpf-lb-sock-hostns-only] "},
		"Cilium in place of kube-proxy, the host alone": {cilium(map[string]string{"kube-proxy-replacement": "true", "bpf-lb-sock-hostns-only": "true"}), ""},
		"Calico without BPF":                            {calico(map[string]any{"bpfEnabled": false}), ""},
		"Calico with BPF":                               {calico(map[string]any{"bpfEnabled": true}), "FelixConfiguration default spec.bpfConnectTimeLoadBalancing "},
		"Calico for TCP":                                {calico(map[string]any{"bpfEnabled": true, "bpfConnectTimeLoadBalancing": "TCP"}), "FelixConfiguration default spec.bpfConnectTimeLoadBalancing TCP"},
		"Calico, switched off":                          {calico(map[string]any{"bpfEnabled": true, "bpfConnectTimeLoadBalancing": "Disabled"}), ""},
		"neither":                                       {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "coredns"}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := checkSockets(t.Context(), fake.NewClientBuilder().WithScheme(kubescheme.New()).WithObjects(c.there).Build())
			var said string
			if len(got) == 1 {
				said = got[0].Object + " " + got[0].Field + " " + got[0].Value
			}
			if len(got) > 1 || said != c.want || err != nil {
				t.Errorf("got %+v, %v, want %q", got, err, c.want)
			}
		})
	}
}
