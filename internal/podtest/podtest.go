// Package podtest makes pods for property tests: those of the injector, as a cluster has them some time later, and others
// beside them. It may import config and webhook; the tests of these two cannot use it.
package podtest

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/webhook"
)

// Bundles are the trust bundles that Random injects. The injector takes any text; whoever reads certificates needs others.
var Bundles = []string{"roots", "other roots"}

// Random returns a pod with a name of its own for each number. Two of three have a sidecar, and addresses may belong to several.
func Random(r *rand.Rand, number int) (*corev1.Pod, error) {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: pick(r, "shop", "pay"), Name: fmt.Sprintf("pod-%d", number), UID: types.UID(fmt.Sprintf("uid-%d", number)),
			Labels: someOf(r, map[string]string{"app": pick(r, "cart", "web"), "version": "1"}),
			Annotations: someOf(r, map[string]string{
				"example.com/note": "foreign", config.AnnotationMTLS: pick(r, "strict", "permissive"), config.AnnotationMTLSPorts: "8080=strict",
				config.AnnotationExcludeInboundPorts:  pick(r, "9100", "9100,22"),
				config.AnnotationExcludeOutboundPorts: pick(r, "3306", "25,3306"), config.AnnotationExcludeOutboundCIDRs: "10.9.0.0/16",
			}),
		},
		Spec: corev1.PodSpec{
			ServiceAccountName: pick(r, "", "cart", "web"), NodeName: "n",
			InitContainers: some(r, []corev1.Container{
				{Name: "migrate", Ports: ports(r)},
				{Name: "native", Ports: ports(r), RestartPolicy: new(corev1.ContainerRestartPolicyAlways)},
			}),
			Containers: []corev1.Container{{Name: "app", Ports: ports(r)}, {Name: "second", Ports: ports(r)}},
		},
	}
	if r.IntN(3) > 0 {
		var err error
		if pod, err = inject(r, pod); err != nil {
			return nil, err
		}
	}
	later(r, pod)
	return pod, nil
}

func inject(r *rand.Rand, pod *corev1.Pod) (*corev1.Pod, error) {
	bundle := pick(r, append([]string{""}, Bundles...)...)
	mesh, err := config.Parse(fmt.Appendf(nil, "sidecar: {image: mizzen/proxy:test}\ncni: {enabled: %v}\nidentity: {enabled: %v}\n", r.IntN(2) == 0, bundle != ""))
	if err != nil {
		return nil, err
	}
	out, _, err := webhook.Inject(pod, webhook.Namespace{}, mesh, "0.0.0-test", []byte(bundle), "probe-key")
	return out, err
}

// later changes what others may change of a pod that has been admitted, and what comes to pass.
func later(r *rand.Rand, pod *corev1.Pod) {
	switch r.IntN(6) {
	case 0:
		pod.Annotations = nil
	case 1:
		pod.Annotations = map[string]string{config.AnnotationMTLS: "on", config.AnnotationMTLSPorts: "x"} // refused at admission
	case 2:
		pod.Labels = someOf(r, map[string]string{"app": "cart"})
	}
	pod.Spec.HostNetwork = r.IntN(8) == 0
	pod.Status.Phase = pick(r, corev1.PodPending, corev1.PodRunning, corev1.PodRunning, corev1.PodSucceeded, corev1.PodFailed, corev1.PodUnknown)
	if pod.Status.Phase != corev1.PodPending || r.IntN(2) == 0 {
		last := 1 + r.IntN(250)
		pod.Status.PodIPs = some(r, []corev1.PodIP{{IP: fmt.Sprintf("10.1.0.%d", last)}, {IP: fmt.Sprintf("fd00::%x", last)}})
	}
	if r.IntN(3) == 0 {
		pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: time.Unix(1e9, 0)}, new(int64(30))
	}
	pod.ManagedFields = []metav1.ManagedFieldsEntry{{Manager: "test"}}
	for _, c := range pod.Spec.InitContainers {
		pod.Status.InitContainerStatuses = append(pod.Status.InitContainerStatuses, corev1.ContainerStatus{Name: c.Name, Started: new(r.IntN(2) == 0)})
	}
}

// ports returns some with and without a name, on either protocol, of which two may have one name.
func ports(r *rand.Rand) []corev1.ContainerPort {
	return some(r, []corev1.ContainerPort{
		{Name: "http", ContainerPort: 8000 + r.Int32N(100)},
		{Name: pick(r, "http", "grpc", "dns"), ContainerPort: 9000 + r.Int32N(100), Protocol: pick(r, corev1.ProtocolTCP, corev1.ProtocolUDP)},
		{ContainerPort: 7000, Protocol: corev1.ProtocolTCP},
	})
}

func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// some returns about two of three, in their order; nil for none.
func some[E any](r *rand.Rand, all []E) []E {
	var out []E
	for _, e := range all {
		if r.IntN(3) > 0 {
			out = append(out, e)
		}
	}
	return out
}

// someOf returns about two of three entries; nil for none.
func someOf(r *rand.Rand, all map[string]string) map[string]string {
	var out map[string]string
	for _, key := range some(r, slices.Sorted(maps.Keys(all))) {
		if out == nil {
			out = map[string]string{}
		}
		out[key] = all[key]
	}
	return out
}
