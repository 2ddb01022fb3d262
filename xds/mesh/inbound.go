package mesh

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Inbound says which connections a pod accepts. Pods that accept the same have the same String, and their sidecars get the
// same listener.
type Inbound struct {
	Mode config.MTLSMode
	// Ports with another mode than Mode.
	Ports map[uint16]config.MTLSMode
	// ForwardCert are the ports at which the application gets the caller's certificate. Ascending.
	ForwardCert []uint16
	// HTTP are the ports that are declared HTTP and at which policies refuse some callers (DeclareHTTP). Ascending.
	HTTP []uint16
	// Policies that select the pod, sorted by name.
	Policies []Policy
}

// BuildInbound takes the most specific setting: the pod's for a port, the pod's, its namespace's for a port, its
// namespace's, the mesh's. The caller adds policies.
func BuildInbound(pod, namespace config.MTLS, whole config.MTLSMode) Inbound {
	said := pod.Over(namespace)
	out := Inbound{
		Mode: cmp.Or(said.Mode, whole, config.Permissive), Ports: maps.Clone(said.Ports),
		ForwardCert: said.ForwardCert,
	}
	maps.DeleteFunc(out.Ports, func(_ uint16, mode config.MTLSMode) bool { return mode == out.Mode })
	return out
}

// String returns, for example, "strict" or "strict,8080=permissive". Policies are in it as their hash.
func (i Inbound) String() string {
	var b strings.Builder
	b.WriteString(string(i.Mode))
	for _, port := range slices.Sorted(maps.Keys(i.Ports)) {
		fmt.Fprintf(&b, ",%d=%s", port, i.Ports[port])
	}
	if len(i.ForwardCert) > 0 {
		fmt.Fprintf(&b, ",forward-client-cert=%d", i.ForwardCert)
	}
	if len(i.HTTP) > 0 {
		fmt.Fprintf(&b, ",http=%d", i.HTTP)
	}
	if len(i.Policies) > 0 {
		fmt.Fprintf(&b, ",policies=%s", PolicyHash(i.Policies))
	}
	return b.String()
}

// BuildNamespace reads a namespace's settings for the connections that its pods accept.
func BuildNamespace(ns *metav1.PartialObjectMetadata) (config.MTLS, []Problem) {
	out, errs := config.MTLSOf(config.OnNamespace, ns.Annotations)
	var problems []Problem
	for _, e := range errs {
		problems = append(problems, badAnnotation(ID{KindNamespace, Key{Name: ns.Name}}, string(ns.UID), e))
	}
	return out, problems
}

// ModeAt returns the mode of a port.
func (i Inbound) ModeAt(port uint16) config.MTLSMode { return cmp.Or(i.Ports[port], i.Mode) }
