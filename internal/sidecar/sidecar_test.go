package sidecar_test

import (
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
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
			p.Spec.InitContainers[0].Args = []string{"run", "--" + contract.CaptureByCNIFlag}
		}, true},
		"names of app containers": {func(p *corev1.Pod) {
			p.Spec.Containers, p.Spec.InitContainers = p.Spec.InitContainers, nil
		}, false},
		"of a gateway": {func(p *corev1.Pod) {
			p.Spec.InitContainers = nil
			p.Spec.Containers = []corev1.Container{{Name: config.ProxyContainer, Args: contract.Run{ControlPlane: "a:1", IdentityAddress: "a:2", Gateway: true}.Args(contract.Captured{})}}
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

// What is captured stands in the arguments of the container that captures, or of the proxy.
func TestCaptured(t *testing.T) {
	byInit := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: sidecartest.Containers("--exclude-inbound-ports=15020,22", "--new-flag=1", "--capture-own-calls")}}
	byNode := byInit.DeepCopy()
	byNode.Spec.InitContainers = byNode.Spec.InitContainers[1:]
	byNode.Spec.InitContainers[0].Args = []string{"run", "--control-plane=a:1", "--" + contract.CaptureByCNIFlag, "--exclude-outbound-ports=25"}
	wrong := &corev1.Pod{Spec: corev1.PodSpec{InitContainers: sidecartest.Containers("--exclude-inbound-ports=22,x")}}
	for _, c := range []struct {
		pod   *corev1.Pod
		want  contract.Captured
		byCNI bool
		err   string
	}{
		{byInit, contract.Captured{CapturesOwnCalls: true, ExcludeInboundPorts: []uint16{22, 15020}}, false, ""},
		{byNode, contract.Captured{ExcludeOutboundPorts: []uint16{25}}, true, ""},
		{wrong, contract.Captured{ExcludeInboundPorts: []uint16{22}}, false, `--exclude-inbound-ports: "x": want a port number`},
		{&corev1.Pod{}, contract.Captured{}, false, ""},
	} {
		got, err := sidecar.Captured(&c.pod.Spec)
		if !reflect.DeepEqual(got, c.want) || sidecar.CapturedByCNI(c.pod) != c.byCNI {
			t.Errorf("%+v, by CNI %v; want %+v, %v", got, sidecar.CapturedByCNI(c.pod), c.want, c.byCNI)
		}
		if text := fmt.Sprint(err); c.err == "" && err != nil || !strings.Contains(text, c.err) {
			t.Errorf("error %v, want %q", err, c.err)
		}
	}
}
