package sidecar_test

import (
	"fmt"
	"slices"
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
		"captured by its node": {func(p *corev1.Pod) {
			p.Spec.InitContainers = p.Spec.InitContainers[1:]
			p.Spec.InitContainers[0].Args = []string{"run", config.CaptureByCNIFlag}
		}, true},
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

func TestApps(t *testing.T) {
	always := new(corev1.ContainerRestartPolicyAlways)
	spec := &corev1.PodSpec{
		InitContainers: append([]corev1.Container{{Name: "first"}}, append(sidecartest.Containers(), corev1.Container{Name: "native", RestartPolicy: always})...),
		Containers:     []corev1.Container{{Name: "web"}, {Name: "db"}},
	}
	// One that bears the name and is not the sidecar is the application's.
	named := &corev1.PodSpec{InitContainers: []corev1.Container{{Name: config.ProxyContainer, RestartPolicy: always}}}
	for name, c := range map[string]struct {
		spec          *corev1.PodSpec
		apps, servers []string
	}{
		"with a sidecar":    {spec, []string{"init 0 first", "init 3 native", "main 0 web", "main 1 db"}, []string{"web", "db", "native"}},
		"with its name":     {named, []string{"init 0 " + config.ProxyContainer}, []string{config.ProxyContainer}},
		"without container": {&corev1.PodSpec{}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var apps, servers []string
			for _, app := range sidecar.Apps(c.spec) {
				list := "main"
				if app.Init {
					list = "init"
				}
				apps = append(apps, fmt.Sprintf("%s %d %s", list, app.Index, app.Name))
			}
			for _, s := range sidecar.Servers(c.spec) {
				servers = append(servers, s.Name)
			}
			if !slices.Equal(apps, c.apps) || !slices.Equal(servers, c.servers) {
				t.Errorf("%q, serving %q; want %q, %q", apps, servers, c.apps, c.servers)
			}
		})
	}
}

func TestCaptureArgs(t *testing.T) {
	byInit := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: sidecartest.Containers("--a")}}
	byNode := byInit.DeepCopy()
	byNode.Spec.InitContainers = byNode.Spec.InitContainers[1:]
	byNode.Spec.InitContainers[0].Args = []string{"run", config.CaptureByCNIFlag, "--b"}
	for _, c := range []struct {
		pod   *corev1.Pod
		want  []string
		byCNI bool
	}{
		{byInit, []string{"capture", "--a"}, false},
		{byNode, []string{"run", config.CaptureByCNIFlag, "--b"}, true},
		{&corev1.Pod{}, nil, false},
	} {
		if got := sidecar.CaptureArgs(&c.pod.Spec); !slices.Equal(got, c.want) || sidecar.CapturedByCNI(c.pod) != c.byCNI {
			t.Errorf("%q, by CNI %v; want %q, %v", got, sidecar.CapturedByCNI(c.pod), c.want, c.byCNI)
		}
	}
}
