package feature

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
)

// parent is a Service as that of a route.
func parent(namespace, name string) gatewayv1.CommonRouteSpec {
	return gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
		Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
		Namespace: new(gatewayv1.Namespace(namespace)), Name: gatewayv1.ObjectName(name),
	}}}
}

// backend is a Service of the route's namespace.
func backend(name string, port int32) gatewayv1.BackendRef {
	return gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(name), Port: new(port)}}
}

func httpRoute(namespace, name string, parent gatewayv1.CommonRouteSpec, backends ...gatewayv1.BackendRef) *gatewayv1.HTTPRoute {
	r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	r.Spec.CommonRouteSpec, r.Spec.Rules = parent, make([]gatewayv1.HTTPRouteRule, 1)
	for _, b := range backends {
		r.Spec.Rules[0].BackendRefs = append(r.Spec.Rules[0].BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: b})
	}
	return r
}

func tcpRoute(namespace, name string, parent gatewayv1.CommonRouteSpec, backends ...gatewayv1.BackendRef) *gatewayv1.TCPRoute {
	r := &gatewayv1.TCPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	r.Spec.CommonRouteSpec, r.Spec.Rules = parent, []gatewayv1.TCPRouteRule{{BackendRefs: backends}}
	return r
}

// tlsRoute is for a name, or for every one if that is empty.
func tlsRoute(name string, parent gatewayv1.CommonRouteSpec, serverName string, backends ...gatewayv1.BackendRef) *gatewayv1.TLSRoute {
	r := &gatewayv1.TLSRoute{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name}}
	r.Spec.CommonRouteSpec, r.Spec.Rules = parent, []gatewayv1.TLSRouteRule{{BackendRefs: backends}}
	if serverName != "" {
		r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(serverName)}
	}
	return r
}

// grant lets routes of a kind and namespace send to the Services of another.
func grant(namespace, kind, from string) *gatewayv1beta1.ReferenceGrant {
	g := &gatewayv1beta1.ReferenceGrant{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "from-" + from}}
	g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: gatewayv1.Kind(kind), Namespace: gatewayv1.Namespace(from)}}
	g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}
	return g
}

// session keeps the sessions of a Service, by a cookie of this name.
func session(service, cookie string) *gatewayxv1alpha1.XBackendTrafficPolicy {
	p := &gatewayxv1alpha1.XBackendTrafficPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: service}}
	p.Spec.TargetRefs = []gatewayv1.LocalPolicyTargetReference{{Kind: "Service", Name: gatewayv1.ObjectName(service)}}
	p.Spec.SessionPersistence = &gatewayv1.SessionPersistence{SessionName: new(cookie)}
	return p
}
