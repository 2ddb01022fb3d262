package main

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

var (
	gateways   = schema.GroupVersion(gatewayv1.GroupVersion).WithResource("gateways")
	httpRoutes = cluster.HTTPRoutes.GVR()
)

// object is a piece of an unstructured one.
type object = map[string]any

const (
	gatewayName = "public"
	serverName  = "server"
	// Ports of the test application.
	httpPort, grpcPort = 8080, 50051
)

// plainGateway has one listener in plain text, for routes of all namespaces.
const plainGateway = `
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: public}
spec:
  gatewayClassName: mizzen
  listeners: [{name: http, port: 80, protocol: HTTP, allowedRoutes: {namespaces: {from: All}}}]
`

// server has pods of the test application, so many, and a Service. %[1]d is the number, %[2]s the image.
const server = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: server}
spec:
  replicas: %[1]d
  selector: {matchLabels: {app: server}}
  strategy: {rollingUpdate: {maxUnavailable: 0}}
  template:
    metadata: {labels: {app: server}}
    spec:
      containers:
        - name: app
          image: %[2]s
          imagePullPolicy: IfNotPresent
          args: [server, "--http=:8080", "--grpc=:50051"]
          resources: {requests: {cpu: 1m}}
          readinessProbe: {periodSeconds: 1, failureThreshold: 2, httpGet: {path: /healthz, port: 9090}}
---
apiVersion: v1
kind: Service
metadata: {name: server}
spec:
  selector: {app: server}
  ports: [{name: http, port: 8080}, {name: grpc, port: 50051}]
`

// route is an HTTPRoute of the Gateway in a namespace, with a host name and a Service.
func route(namespace, name, gatewayNamespace, host, service string, port int64) *unstructured.Unstructured {
	return &unstructured.Unstructured{Object: object{
		"apiVersion": gatewayv1.GroupVersion.String(), "kind": routeKind,
		"metadata": object{"namespace": namespace, "name": name},
		"spec": object{
			"parentRefs": []any{object{"name": gatewayName, "namespace": gatewayNamespace}},
			"hostnames":  []any{host},
			"rules": []any{object{
				"matches":     []any{object{"path": object{"type": "PathPrefix", "value": "/"}}},
				"backendRefs": []any{object{"name": service, "port": port}},
			}},
		},
	}}
}

// hostOf is the host name of the i-th route.
func hostOf(i int) string { return fmt.Sprintf("shop-%04d.example.com", i) }

// unmanaged is a Service without a selector, which no kube-proxy programs: the node may be the machine that measures.
func unmanaged(namespace, name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{"service.kubernetes.io/service-proxy-name": "mizzen-bench"}},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http", Port: httpPort}}},
	}
}

// slice has the address of a pod as the endpoint of a Service.
func slice(namespace, service, address string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: service, Labels: map[string]string{
			discoveryv1.LabelServiceName: service, discoveryv1.LabelManagedBy: "mizzen-bench",
		}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: new("http"), Port: new(int32(httpPort))}},
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{address}, Conditions: discoveryv1.EndpointConditions{Ready: new(true)}}},
	}
}
