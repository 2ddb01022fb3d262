package ctl

import (
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// injectedPod is a pod as the injector leaves it, running since an hour.
func injectedPod(namespace, name, ip string, changes ...func(*corev1.Pod)) *corev1.Pod { //nolint:unparam // as plainPod
	p := plainPod(namespace, name, ip, func(p *corev1.Pod) {
		p.Annotations = map[string]string{config.AnnotationInjected: "1.0"}
		p.Spec.InitContainers = sidecartest.Containers("--exclude-inbound-ports=15020,9100")
	})
	for _, change := range changes {
		change(p)
	}
	return p
}

func plainPod(namespace, name, ip string, changes ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}},
		Spec:       corev1.PodSpec{ServiceAccountName: "cart"},
		Status: corev1.PodStatus{
			Phase: corev1.PodRunning, PodIPs: []corev1.PodIP{{IP: ip}}, StartTime: new(metav1.NewTime(goldenNow().Add(-time.Hour))),
		},
	}
	for _, change := range changes {
		change(p)
	}
	return p
}

func TestCallerIsTold(t *testing.T) {
	capture := func(arg string) func(*corev1.Pod) {
		return func(p *corev1.Pod) {
			p.Spec.InitContainers[0].Args = append(p.Spec.InitContainers[0].Args, arg)
		}
	}
	inv := newInventory("mizzen-system")
	inv.namespaces["shop"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{config.LabelInjection: "enabled"}}}
	inv.namespaces["old"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "old"}}
	inv.namespaces["typo"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "typo", Labels: map[string]string{config.LabelInjection: "yes"}}}
	for _, p := range []*corev1.Pod{
		injectedPod("shop", "cart", "10.0.0.9"),
		injectedPod("shop", "meshed", "10.0.0.10"),
		injectedPod("shop", "ports", "10.0.0.11", capture("--exclude-outbound-ports=80,8080")),
		injectedPod("shop", "cidrs", "10.0.0.12", capture("--exclude-outbound-cidrs=10.0.0.0/24")),
		injectedPod("shop", "elsewhere", "10.0.0.13", capture("--exclude-outbound-ports=3306")),
		injectedPod("shop", "early", "10.0.0.14", func(p *corev1.Pod) { p.Spec.InitContainers[1].Env = nil }),
		plainPod("shop", "older", "10.0.0.15"),
		plainPod("shop", "off", "10.0.0.16", func(p *corev1.Pod) { p.Labels = map[string]string{config.LabelInjection: "disabled"} }),
		plainPod("old", "app", "10.0.0.17"),
		plainPod("typo", "app", "10.0.0.18"),
		plainPod("unread", "app", "10.0.0.19"),
		plainPod("shop", "host", "192.0.2.1", func(p *corev1.Pod) { p.Spec.HostNetwork = true }),
		injectedPod("shop", "young", "10.0.0.20", func(p *corev1.Pod) { p.Status.StartTime = new(metav1.NewTime(goldenNow().Add(-time.Minute))) }),
		plainPod("old", "job", "10.0.0.21", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(goldenNow())}}}}
		}),
		plainPod("old", "done", "10.0.0.22", func(p *corev1.Pod) {
			p.Status.Phase = corev1.PodSucceeded
			p.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{FinishedAt: metav1.NewTime(goldenNow().Add(-50 * time.Minute))}}}}
		}),
		plainPod("old", "mapped", "fd00::17"),
	} {
		inv.addPod(p)
	}
	inv.nodes = []corev1.Node{
		{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: corev1.NodeSpec{PodCIDRs: []string{"10.0.1.0/24", "bad"}}, Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}},
	}
	target := inv.byKey[mesh.Key{Namespace: "shop", Name: "cart"}]
	for source, want := range map[string]caller{
		"10.0.0.9":         {callerPod, "shop", "cart", "Pod/cart", "the pod itself, bypassing its sidecar"},
		"10.0.0.10":        {callerPod, "shop", "meshed", "Pod/meshed", "it has a sidecar, but called an address of no pod and no Service, such as a node port or a load balancer, or bypassed the sidecar"},
		"10.0.0.11":        {callerPod, "shop", "ports", "Pod/ports", "its capture excludes this call: 80, 8080"},
		"10.0.0.12":        {callerPod, "shop", "cidrs", "Pod/cidrs", "its capture excludes this call: 10.0.0.0/24"},
		"10.0.0.13":        {callerPod, "shop", "elsewhere", "Pod/elsewhere", "it has a sidecar whose capture excludes 3306; or it called an address of no pod and no Service"},
		"10.0.0.14":        {callerPod, "shop", "early", "Pod/early", "its sidecar has no identity, because it was injected before the mesh had identities; recreate the pod"},
		"10.0.0.15":        {callerPod, "shop", "older", "Pod/older", "no sidecar: the pod is older than the label of its namespace; recreate it"},
		"10.0.0.16":        {callerPod, "shop", "off", "Pod/off", "no sidecar: the pod's label mizzen.dev/injection=disabled turns injection off"},
		"10.0.0.17":        {callerPod, "old", "app", "Pod/app", "no sidecar: neither the namespace nor the pod has the label mizzen.dev/injection=enabled"},
		"::ffff:10.0.0.17": {callerPod, "old", "app", "Pod/app", "no sidecar: neither the namespace nor the pod has the label mizzen.dev/injection=enabled"},
		"fd00::17":         {callerPod, "old", "mapped", "Pod/mapped", "no sidecar: neither the namespace nor the pod has the label mizzen.dev/injection=enabled"},
		"10.0.0.18":        {callerPod, "typo", "app", "Pod/app", `no sidecar: its namespace has the label mizzen.dev/injection: "yes": want "enabled" or "disabled"`},
		"10.0.0.19":        {callerPod, "unread", "app", "Pod/app", "no sidecar"},
		"10.0.0.20":        {kind: callerGone, name: "10.0.0.20", reason: "a deleted pod; shop/young has the address now"},
		"10.0.0.21":        {callerPod, "old", "job", "Pod/job", "no sidecar: neither the namespace nor the pod has the label mizzen.dev/injection=enabled"},
		"10.0.0.22":        {kind: callerGone, name: "10.0.0.22", reason: "a deleted pod"},
		"192.0.2.1":        {kind: callerNode, name: "n1", reason: "the node's address: a pod with hostNetwork, a process of the node, or a call through a node port"},
		"10.0.1.1":         {kind: callerNode, name: "n1", reason: "the node's address in its pod network: a pod with hostNetwork, a process of the node, or a call through a node port"},
		"10.0.1.7":         {kind: callerGone, name: "10.0.1.7", reason: "a deleted pod of node n1"},
		"198.51.100.1":     {kind: callerOutside, name: "198.51.100.1", reason: "outside of the cluster: no pod or node has this address"},
	} {
		seen := agentapi.Caller{
			Source: netip.MustParseAddr(source), Port: 8080, First: goldenNow().Add(-30 * time.Minute), Last: goldenNow().Add(-20 * time.Minute),
		}
		if got := inv.caller(seen, target); got != want {
			t.Errorf("%s:\n got %+v\nwant %+v", source, got, want)
		}
	}
}

// What is told of modes is what the control plane does.
func TestModesAreThoseOfTheControlPlane(t *testing.T) {
	annotations := []map[string]string{
		{}, {config.AnnotationMTLS: "strict"}, {config.AnnotationMTLS: "permissive"}, {config.AnnotationMTLSPorts: "80=strict,90=permissive"},
		{config.AnnotationMTLS: "strict", config.AnnotationMTLSPorts: "80=strict,90=permissive"}, {config.AnnotationMTLS: "wrong"},
	}
	saidBy := map[string]int{}
	for _, whole := range []config.MTLSMode{"", config.Permissive, config.Strict} {
		for _, onNamespace := range annotations {
			for _, onPod := range annotations {
				inv := newInventory("mizzen-system")
				inv.cfg.MTLS.Mode = whole
				inv.namespaces["shop"] = &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Annotations: onNamespace}}
				inv.addPod(injectedPod("shop", "cart", "10.0.0.9", func(p *corev1.Pod) {
					for k, v := range onPod {
						p.Annotations[k] = v
					}
				}))
				p := inv.pods[0]
				ns, _ := config.MTLSOf(config.OnNamespace, onNamespace)
				built := mesh.BuildInbound(p.MTLS, ns, whole)
				for _, port := range []uint16{80, 90, 1} {
					want, own := built.Ports[port]
					if !own {
						want = built.Mode
					}
					got, by := inv.modesOf(p).at(port)
					saidBy[by]++
					if got != want {
						t.Errorf("mesh %q, namespace %v, pod %v, port %d: %s by %s, want %s", whole, onNamespace, onPod, port, got, by, want)
					}
				}
			}
		}
	}
	if len(saidBy) != 5 {
		t.Errorf("%v", saidBy)
	}
}
