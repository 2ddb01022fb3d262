package xdstest

import (
	"fmt"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/webhook"
)

// Pod returns a pod that runs, outside the mesh, with these addresses. Its service account has its name.
func Pod(namespace, name string, ips ...netip.Addr) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: name, UID: types.UID(fmt.Sprintf("uid-of-%s-%s", namespace, name)), Labels: map[string]string{"app": name},
		},
		Spec:   corev1.PodSpec{ServiceAccountName: name, NodeName: "node", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		Status: corev1.PodStatus{Phase: corev1.PodRunning},
	}
	for _, ip := range ips {
		pod.Status.PodIPs = append(pod.Status.PodIPs, corev1.PodIP{IP: ip.String()})
	}
	if len(ips) > 0 {
		pod.Status.PodIP = ips[0].String()
	}
	return pod
}

// Inject returns the pod with the sidecar that the webhook gives it.
func (c *ControlPlane) Inject(pod *corev1.Pod) (*corev1.Pod, error) {
	cfg := *c.Config
	if cfg.Sidecar.Image == "" {
		cfg.Sidecar.Image = "mizzen/proxy"
	}
	var roots []byte
	if c.Authority != nil {
		roots = c.Roots()
	}
	out, _, err := webhook.Inject(pod, webhook.Namespace{}, &cfg, "test", roots, "")
	if err != nil {
		return nil, fmt.Errorf("inject %s/%s: %w", pod.Namespace, pod.Name, err)
	}
	return out, nil
}
