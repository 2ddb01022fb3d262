package translate

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// IDOf returns the ID of an object. It reports whether the mesh is built from objects of this kind.
func IDOf(o metav1.Object) (mesh.ID, bool) {
	id := mesh.ID{Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}}
	switch o := o.(type) {
	case *corev1.Service:
		id.Kind = mesh.KindService
	case *discoveryv1.EndpointSlice:
		id.Kind = mesh.KindEndpointSlice
	case *networkingv1.ServiceCIDR:
		id.Kind = mesh.KindServiceCIDR
	case *corev1.Pod:
		id.Kind = mesh.KindPod
	case *corev1.Namespace:
		id.Kind = mesh.KindNamespace
	case *corev1.Node:
		id.Kind = mesh.KindNode
	case *metav1.PartialObjectMetadata:
		if id.Kind = mesh.Kind(o.Kind); id.Kind != mesh.KindNamespace && id.Kind != mesh.KindNode {
			return id, false
		}
	case *gatewayv1.HTTPRoute:
		id.Kind = mesh.KindHTTPRoute
	case *gatewayv1.GRPCRoute:
		id.Kind = mesh.KindGRPCRoute
	case *gatewayv1.TLSRoute:
		id.Kind = mesh.KindTLSRoute
	case *gatewayv1.TCPRoute:
		id.Kind = mesh.KindTCPRoute
	case *gatewayv1.UDPRoute:
		id.Kind = mesh.KindUDPRoute
	case *gatewayv1.GatewayClass:
		id.Kind = mesh.KindGatewayClass
	case *gatewayv1.Gateway:
		id.Kind = mesh.KindGateway
	case *gatewayv1.ListenerSet:
		id.Kind = mesh.KindListenerSet
	case *gatewayv1.BackendTLSPolicy:
		id.Kind = mesh.KindBackendTLSPolicy
	case *corev1.Secret:
		id.Kind = mesh.KindSecret
	case *corev1.ConfigMap:
		id.Kind = mesh.KindConfigMap
	case *gatewayv1.ReferenceGrant, *gatewayv1beta1.ReferenceGrant:
		id.Kind = mesh.KindReferenceGrant
	case *gatewayxv1alpha1.XBackendTrafficPolicy:
		id.Kind = mesh.KindTrafficPolicy
	case *v1alpha1.AuthorizationPolicy:
		id.Kind = mesh.KindAuthorizationPolicy
	default:
		return id, false
	}
	return id, true
}
