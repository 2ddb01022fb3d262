package mesh

import (
	"cmp"
	"maps"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Kind is the kind of an object that the mesh is built from.
type Kind string

// The kinds.
const (
	KindService       Kind = "Service"
	KindEndpointSlice Kind = "EndpointSlice"
	KindServiceCIDR   Kind = "ServiceCIDR"
	KindNode          Kind = "Node"
	KindPod           Kind = "Pod"
	KindNamespace     Kind = "Namespace"
	KindSecret        Kind = "Secret"
	KindConfigMap     Kind = "ConfigMap"

	KindHTTPRoute           Kind = "HTTPRoute"
	KindGRPCRoute           Kind = "GRPCRoute"
	KindTLSRoute            Kind = "TLSRoute"
	KindTCPRoute            Kind = "TCPRoute"
	KindUDPRoute            Kind = "UDPRoute"
	KindGatewayClass        Kind = "GatewayClass"
	KindGateway             Kind = "Gateway"
	KindListenerSet         Kind = "ListenerSet"
	KindReferenceGrant      Kind = "ReferenceGrant"
	KindBackendTLSPolicy    Kind = "BackendTLSPolicy"
	KindTrafficPolicy       Kind = "XBackendTrafficPolicy"
	KindAuthorizationPolicy Kind = "AuthorizationPolicy"
)

// OfConnections reports whether routes of the kind match connections, not requests.
func (k Kind) OfConnections() bool {
	return k == KindTLSRoute || k == KindTCPRoute || k == KindUDPRoute
}

// Key names a namespaced object.
type Key struct{ Namespace, Name string }

func (k Key) String() string { return k.Namespace + "/" + k.Name }

// Compare orders by namespace, then name.
func (k Key) Compare(other Key) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}

// ID names an object of any kind.
type ID struct {
	Kind Kind
	Key  // without a namespace for a cluster-wide object
}

// Compare orders by kind, then namespace, then name.
func (i ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(i.Kind, other.Kind), i.Key.Compare(other.Key))
}

// String returns, for example, "Service shop/cart" or "Namespace shop".
func (i ID) String() string {
	if i.Namespace == "" {
		return string(i.Kind) + " " + i.Name
	}
	return string(i.Kind) + " " + i.Key.String()
}

// SameIntent reports whether at most the status or the labels of an object changed. The generation counts changes of the spec,
// but not of annotations. Objects without a generation, such as those of files, differ.
func SameIntent(before, now metav1.Object) bool {
	return now.GetGeneration() != 0 && before.GetUID() == now.GetUID() && before.GetGeneration() == now.GetGeneration() &&
		maps.Equal(before.GetAnnotations(), now.GetAnnotations())
}
