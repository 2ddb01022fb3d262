package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
)

// Pod is what the mesh needs to know of a pod.
type Pod struct {
	Key
	UID    string
	Labels map[string]string
	// IPs has one address for each family of the pod; none before it has been given any, and after its end.
	IPs            []netip.Addr
	ServiceAccount string
	// HostNetwork is set for a pod that shares its node's addresses.
	HostNetwork bool
	// Terminating is set for a pod that is on its way out. It is given no address any more.
	Terminating bool
	// Meshed is set for a pod whose sidecar ends mTLS.
	Meshed bool
	// PlainPorts are not captured: who calls them meets the application, not the sidecar. Ascending.
	PlainPorts []uint16
	// Ports are those that its containers name.
	Ports map[string]uint16
	// MTLS are its settings for what it takes.
	MTLS config.MTLS
	// Problems are its annotations that cannot be used: they may have been written after it was admitted.
	Problems []Problem
}

// BuildPod gives the model of a pod. Annotations that cannot be used are left out and told.
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
		out.ServiceAccount = "default" // as Kubernetes' own admission has it
	}
	var errs []config.KeyError
	out.MTLS, errs = config.MTLSOf(config.OnPod, pod.Annotations)
	for _, e := range errs {
		out.Problems = append(out.Problems, badAnnotation(ID{KindPod, out.Key}, out.UID, e))
	}
	if pod.Status.Phase == corev1.PodSucceeded || pod.Status.Phase == corev1.PodFailed {
		return out // its addresses stand in the status still, but may be another pod's by now
	}
	for _, p := range pod.Status.PodIPs {
		if ip, err := netip.ParseAddr(p.IP); err == nil {
			out.IPs = append(out.IPs, ip)
		}
	}
	return out
}

// meshed reports whether a pod has a sidecar with an identity. Sidecars that were injected before identities were turned
// on have none: they take no mTLS before their pod is made anew.
func meshed(pod *corev1.Pod) bool {
	_, identity := sidecar.TrustBundle(&pod.Spec)
	return identity && sidecar.Has(pod)
}

// plainPorts are those that the pod was injected with. Its annotation alone does not tell them: without one the mesh's list of the
// time of the injection holds. A container whose arguments are wrong in part does not start.
func plainPorts(pod *corev1.Pod) []uint16 {
	captured, _ := sidecar.Captured(&pod.Spec)
	return captured.ExcludeInboundPorts
}

// SPIFFEID names a service account in a trust domain.
// https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md
func SPIFFEID(trustDomain, namespace, serviceAccount string) string {
	return fmt.Sprintf("spiffe://%s/ns/%s/sa/%s", trustDomain, namespace, serviceAccount)
}

// identityAt is who answers at a port of the pod: its SPIFFE ID, or PlainText where its sidecar does not.
func (p *Pod) identityAt(trustDomain string, port uint16) string {
	if !p.Meshed || slices.Contains(p.PlainPorts, port) {
		return PlainText
	}
	return SPIFFEID(trustDomain, p.Namespace, p.ServiceAccount)
}
