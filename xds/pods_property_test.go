package xds

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// podIPs are few, so that they go from one pod to the next, in two ranges.
var podIPs = []string{"10.1.0.1", "10.1.0.2", "10.1.1.1"}

// newPod is mostly one of the mesh. Of port 8081 its sidecar may know nothing.
func (w *randomCluster) newPod(meta metav1.ObjectMeta) client.Object {
	pod := injectedPod(meta.Namespace, meta.Name, pick(w, "x", "y"), podIPs[w.IntN(len(podIPs))])
	pod.UID, pod.Labels, pod.CreationTimestamp = meta.UID, meta.Labels, meta.CreationTimestamp
	if w.IntN(3) == 0 {
		pod.Annotations[config.AnnotationMTLS] = pick(w, "strict", "permissive")
	}
	switch w.IntN(8) {
	case 0:
		pod.Spec.InitContainers = nil
	case 1:
		pod.Spec.HostNetwork = true
	case 2:
		pod.Status.Phase = corev1.PodSucceeded
	case 3:
		pod.Status.PodIPs = nil
	case 4:
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	case 5:
		pod.Spec.InitContainers = sidecartest.Containers("--exclude-inbound-ports=8081")
	}
	return pod
}

// injectedPod is a pod of the mesh.
func injectedPod(namespace, name, serviceAccount, ip string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}}}
	pod.Spec.ServiceAccountName = serviceAccount
	pod.Spec.InitContainers = sidecartest.Containers()
	pod.Status.Phase, pod.Status.PodIPs = corev1.PodRunning, []corev1.PodIP{{IP: ip}}
	return pod
}

// podEndpoint names a pod, or has an address alone.
func (w *randomCluster) podEndpoint(namespace string) discoveryv1.Endpoint {
	ep := discoveryv1.Endpoint{Addresses: []string{podIPs[w.IntN(len(podIPs))]}}
	if w.IntN(3) > 0 {
		ep.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprint("pod-", w.IntN(4))}
		pod, ok := w.objects[fmt.Sprintf("%T %s/%s", &corev1.Pod{}, namespace, ep.TargetRef.Name)].(*corev1.Pod)
		if ok && w.IntN(4) > 0 {
			ep.TargetRef.UID = pod.UID
			if len(pod.Status.PodIPs) > 0 {
				ep.Addresses[0] = pod.Status.PodIPs[0].IP
			}
		}
	}
	return ep
}

// callPods has a sidecar ask for all addresses of pods, until stop or the end of the test.
func (w *randomCluster) callPods(t *testing.T, c *Controller) (stop func()) {
	t.Helper()
	if !w.identities {
		return func() {}
	}
	p := connect(t, c.opt.Store)
	var names []string
	for _, ip := range append(slices.Clone(podIPs), "10.1.2.1") {
		for _, port := range []uint16{8080, 8081} {
			names = append(names, sds.AddressName(netip.AddrPortFrom(netip.MustParseAddr(ip), port)))
		}
	}
	p.subscribe(envoy.PodAddressType, names...)
	for wanted := 0; wanted < len(names); {
		select {
		case <-c.calls.changed():
		case <-time.After(10 * time.Second):
			t.Fatal("nobody asks for the addresses")
		}
		c.takeWanted()
		wanted = 0
		for _, ports := range c.calls.wanted {
			wanted += len(ports)
		}
	}
	return p.stop
}

// differ compares what two controllers publish. The one that has followed the changes may know identities and ranges
// beyond those that there are, because to forget one is to change a cluster or a listener.
func differ(t *testing.T, fresh, followed *Controller) string {
	t.Helper()
	was, now := published(t, fresh), published(t, followed)
	var out strings.Builder
	same := true
	for key, svc := range fresh.services {
		if other := followed.services[key]; other != nil && !slices.Equal(svc.model.Identities, other.model.Identities) {
			same = false
			if !within(svc.model.Identities, other.model.Identities) {
				fmt.Fprintf(&out, "%s: identities %q, want %q\n", key, other.model.Identities, svc.model.Identities)
			}
		}
	}
	if !same {
		for _, versions := range []map[string]map[string]string{was, now} {
			maps.DeleteFunc(versions["Cluster"], func(name, _ string) bool { return !strings.HasPrefix(name, "pod/") })
		}
	}
	if a, b := fresh.calls.ranges, followed.calls.ranges; !slices.Equal(a, b) {
		for _, versions := range []map[string]map[string]string{was, now} {
			maps.DeleteFunc(versions["Listener"], func(name, _ string) bool {
				return strings.HasPrefix(name, "outbound") || strings.HasPrefix(name, "detect")
			})
		}
		if !within(a, b) {
			fmt.Fprintf(&out, "ranges %v, want %v\n", b, a)
		}
	}
	return out.String() + cmp.Diff(was, now)
}

// renew has a controller forget what it knows beyond what there is.
func renew(t *testing.T, c *Controller) {
	t.Helper()
	for key := range c.services {
		c.hold(key)
	}
	c.calls.ranges, c.calls.listeners = nil, nil
	c.publishHeld(t.Context())
}
