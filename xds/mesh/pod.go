package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Pod is what the mesh needs to know about a pod.
type Pod struct {
	Key
	UID    string
	Labels map[string]string
	// IPs has one address for each family of the pod. It is empty before the pod has an address, and after its end.
	IPs            []netip.Addr
	ServiceAccount string
	// HostNetwork is true if the pod shares its node's addresses.
	HostNetwork bool
	// Terminating is true once the pod is being deleted. It does not get a new address any more.
	Terminating bool
	// Meshed is true if the pod's sidecar terminates mTLS.
	Meshed bool
	// PlainPorts are not captured: callers reach the application, not the sidecar. Ascending.
	PlainPorts []uint16
	// Ports are the named ports of its containers.
	Ports map[string]uint16
	// MTLS are its settings for the connections that it accepts.
	MTLS config.MTLS
	// Problems are its annotations that cannot be used. They may have been written after the pod was admitted.
	Problems []Problem
}

// BuildPod returns the model of a pod. It leaves out annotations that cannot be used, and lists them as problems.
func BuildPod(pod *corev1.Pod) *Pod {
	out := &Pod{
		Key: Key{pod.Namespace, pod.Name}, UID: string(pod.UID), Labels: pod.Labels,
		ServiceAccount: pod.Spec.ServiceAccountName,
		HostNetwork:    pod.Spec.HostNetwork,
		Terminating:    pod.DeletionTimestamp != nil,
		Meshed:         meshed(pod),
		PlainPorts:     plainPorts(pod),
		Ports:          namedPorts(pod),
	}
	if out.ServiceAccount == "" {
		out.ServiceAccount = "default" // as Kubernetes' own admission sets it
	}
	var errs []config.KeyError
	out.MTLS, errs = config.MTLSOf(config.OnPod, pod.Annotations)
	for _, e := range errs {
		out.Problems = append(out.Problems, badAnnotation(ID{KindPod, out.Key}, out.UID, e))
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return out // its addresses are still in the status, but may belong to another pod by now
	}
	for _, p := range pod.Status.PodIPs {
		if ip, err := netip.ParseAddr(p.IP); err == nil {
			out.IPs = append(out.IPs, ip)
		}
	}
	return out
}

// meshed reports whether a pod has a sidecar with an identity. A sidecar that was injected before identities were turned
// on has none, and accepts no mTLS until its pod is created again.
func meshed(pod *corev1.Pod) bool {
	_, identity := sidecar.TrustBundle(&pod.Spec)
	return identity && sidecar.Has(pod)
}

// plainPorts returns the excluded ports that the pod was injected with. The annotation is not enough: without it, the mesh's
// list at the time of the injection holds. Wrong arguments need no care, because a container with them does not start.
func plainPorts(pod *corev1.Pod) []uint16 {
	captured, _ := sidecar.Captured(&pod.Spec)
	return captured.ExcludeInboundPorts
}

// SPIFFEID returns the ID of a service account in a trust domain.
// https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
func SPIFFEID(trustDomain, namespace, serviceAccount string) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, serviceAccount)
}

// identityAt returns who answers at a port of the pod: the pod's SPIFFE ID, or PlainText if its sidecar does not answer
// there.
func (p *Pod) identityAt(trustDomain string, port uint16) string {
	if !p.Meshed || slices.Contains(p.PlainPorts, port) {
		return PlainText
	}
	return SPIFFEID(trustDomain, p.Namespace, p.ServiceAccount)
}
