package sidecar_test

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
)

func TestHas(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*corev1.Pod)
		want   bool
	}{
		"as injected":            {func(*corev1.Pod) {}, true},
		"without any annotation": {func(p *corev1.Pod) { p.Annotations, p.Labels = nil, nil }, true},
		"behind another's init": {func(p *corev1.Pod) {
			p.Spec.InitContainers = append([]corev1.Container{{Name: "other"}}, p.Spec.InitContainers...)
		}, true},
		"on its node's network":     {func(p *corev1.Pod) { p.Spec.HostNetwork = true }, false},
		"no init containers":        {func(p *corev1.Pod) { p.Spec.InitContainers = nil }, false},
		"nothing captured":          {func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.InitContainers[1:] }, false},
		"no proxy":                  {func(p *corev1.Pod) { p.Spec.InitContainers = p.Spec.InitContainers[:1] }, false},
		"the annotation alone":      {func(p *corev1.Pod) { p.Annotations[config.AnnotationInjected], p.Spec.InitContainers = "1.0", nil }, false},
		"names alone":               {func(p *corev1.Pod) { p.Spec.InitContainers[0].Args, p.Spec.InitContainers[1].Args = nil, nil }, false},
		"a proxy that ends":         {func(p *corev1.Pod) { p.Spec.InitContainers[1].RestartPolicy = nil }, false},
		"a proxy with another task": {func(p *corev1.Pod) { p.Spec.InitContainers[1].Args = []string{"wait"} }, false},
		"names of app containers": {func(p *corev1.Pod) {
			p.Spec.Containers, p.Spec.InitContainers = p.Spec.InitContainers, nil
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			pod := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: sidecartest.Containers()}}
			pod.Annotations = map[string]string{}
			c.change(pod)
			if got := sidecar.Has(pod); got != c.want {
				t.Errorf("has a sidecar: %v, want %v", got, c.want)
			}
		})
	}
}
