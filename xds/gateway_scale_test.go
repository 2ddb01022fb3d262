package xds_test

import (
	"fmt"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/server"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// manyRoutes is a Gateway with n HTTPRoutes, each with a host name and a Service of its own.
func manyRoutes(n int) []metav1.Object {
	all := gatewayv1.NamespacesFromAll
	out := []metav1.Object{
		&gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}, Spec: gatewayv1.GatewayClassSpec{ControllerName: config.ControllerName}},
		&gatewayv1.Gateway{
			ObjectMeta: metav1.ObjectMeta{Namespace: "edge", Name: "public"},
			Spec: gatewayv1.GatewaySpec{GatewayClassName: "mizzen", Listeners: []gatewayv1.Listener{{
				Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType,
				AllowedRoutes: &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: &all}},
			}}},
		},
	}
	for i := range n {
		out = append(out, manyService(i), manyRoute(i, "/"))
	}
	return out
}

func manyService(i int) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("shop-%02d", i%50), Name: fmt.Sprintf("service-%04d", i)},
		Spec: corev1.ServiceSpec{
			ClusterIP: fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250), ClusterIPs: []string{fmt.Sprintf("10.96.%d.%d", i/250, 1+i%250)},
			Ports: []corev1.ServicePort{{Name: "http", Port: 80}},
		},
	}
}

func manyRoute(i int, path string) *gatewayv1.HTTPRoute {
	port := gatewayv1.PortNumber(80)
	namespace := gatewayv1.Namespace("edge")
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: fmt.Sprintf("shop-%02d", i%50), Name: fmt.Sprintf("route-%04d", i)},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{Namespace: &namespace, Name: "public"}}},
			Hostnames:       []gatewayv1.Hostname{gatewayv1.Hostname(fmt.Sprintf("shop-%d.example.com", i))},
			Rules: []gatewayv1.HTTPRouteRule{{
				Matches:     []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}},
				BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(fmt.Sprintf("service-%04d", i)), Port: &port}}}},
			}},
		},
	}
}

// withGRPC makes every second HTTPRoute a GRPCRoute.
func withGRPC(objects []metav1.Object) []metav1.Object {
	n := 0
	for i, o := range objects {
		r, ok := o.(*gatewayv1.HTTPRoute)
		if n++; !ok || n%4 < 2 {
			continue
		}
		objects[i] = &gatewayv1.GRPCRoute{ObjectMeta: r.ObjectMeta, Spec: gatewayv1.GRPCRouteSpec{
			CommonRouteSpec: r.Spec.CommonRouteSpec, Hostnames: r.Spec.Hostnames,
			Rules: []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: r.Spec.Rules[0].BackendRefs[0].BackendRef}}}},
		}}
	}
	return objects
}

// A change of one route of many.
func BenchmarkGatewayRoute(b *testing.B) {
	for _, n := range []int{100, 1000, 5000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) { benchmarkRoute(b, n, manyRoutes(n)) })
		b.Run(fmt.Sprint(n, " of two kinds"), func(b *testing.B) { benchmarkRoute(b, n, withGRPC(manyRoutes(n))) })
	}
}

func benchmarkRoute(b *testing.B, n int, objects []metav1.Object) {
	cfg := config.Default()
	cfg.MTLS.TrustDomain = "cluster.local"
	t, store := translate.New(cfg), server.NewStore()
	for _, o := range objects {
		t.Set(o)
	}
	if _, err := store.Apply(t.Build().Change); err != nil {
		b.Fatal(err)
	}
	i := 0
	for b.Loop() {
		i++
		t.Set(manyRoute(i%n, fmt.Sprintf("/%d", i)))
		if _, err := store.Apply(t.Build().Change); err != nil {
			b.Fatal(err)
		}
	}
}
