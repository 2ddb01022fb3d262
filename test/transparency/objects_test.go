package transparency

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/webhook"
)

const (
	namespace   = "shop"
	nodeAddress = "10.89.0.1"
)

// meshConfig is the default one, at the node's address.
func meshConfig() (*config.Mesh, error) {
	return config.Parse([]byte("controlPlaneAddress: " + nodeAddress + ":15010\nsidecar: {image: mizzen/proxy, configScope: all}"))
}

// injectedPods are the pods as the API server has them, with what the injector adds.
func injectedPods(cfg *config.Mesh, trustBundle []byte) (map[string]*corev1.Pod, error) {
	out := map[string]*corev1.Pod{}
	for name, ip := range podAddresses {
		pod := &corev1.Pod{
			ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, UID: types.UID("uid-of-" + name), Labels: map[string]string{"app": name}},
			Spec:       corev1.PodSpec{ServiceAccountName: name, NodeName: "node", Containers: []corev1.Container{{Name: "app", Image: "app"}}},
		}
		if name == "strict" {
			pod.Annotations = map[string]string{config.AnnotationMTLS: string(config.Strict)}
		}
		if slices.Contains(meshed, name) {
			var err error
			if pod, _, err = webhook.Inject(pod, webhook.Namespace{}, cfg, "test", trustBundle, ""); err != nil {
				return nil, fmt.Errorf("inject %s: %w", name, err)
			}
		}
		pod.Status = corev1.PodStatus{Phase: corev1.PodRunning, PodIP: ip.String(), PodIPs: []corev1.PodIP{{IP: ip.String()}}}
		out[name] = pod
	}
	return out, nil
}

// objects are all that the cluster has.
func objects(pods map[string]*corev1.Pod) []client.Object {
	out := []client.Object{
		kubetest.Namespace(namespace, nil),
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{"10.96.0.0/12"}}},
		judgement(),
	}
	for _, name := range slices.Sorted(maps.Keys(pods)) {
		out = append(out, pods[name])
	}
	for _, l := range all() {
		out = append(out, service(l), endpoints(l, pods[l.to]))
		if l.routed {
			out = append(out, routes(l)...)
		}
	}
	return out
}

func portName(p protocol, slot int) string {
	if p == undeclared {
		return fmt.Sprintf("x-%d", slot)
	}
	return fmt.Sprintf("%s-%d", p, slot)
}

func service(l layout) *corev1.Service {
	ip := l.serviceIP().String()
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: l.serviceName()},
		Spec:       corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": l.to}},
	}
	for _, p := range l.protocols {
		for slot := range slots {
			s.Spec.Ports = append(s.Spec.Ports, corev1.ServicePort{Name: portName(p, slot), Port: l.port(p, slot), Protocol: corev1.ProtocolTCP})
		}
	}
	return s
}

func endpoints(l layout, pod *corev1.Pod) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: l.serviceName() + "-1", Labels: map[string]string{discoveryv1.LabelServiceName: l.serviceName()},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints: []discoveryv1.Endpoint{{
			Addresses: []string{pod.Status.PodIP}, Conditions: discoveryv1.EndpointConditions{Ready: new(true), Serving: new(true)},
			TargetRef: &corev1.ObjectReference{Kind: "Pod", Namespace: pod.Namespace, Name: pod.Name, UID: pod.UID},
		}},
	}
	for _, p := range l.protocols {
		for slot := range slots {
			s.Ports = append(s.Ports, discoveryv1.EndpointPort{
				Name: new(portName(p, slot)), Port: new(l.port(p, slot)), Protocol: new(corev1.ProtocolTCP),
			})
		}
	}
	return s
}

// routes send each port's requests to where they go without them.
func routes(l layout) []client.Object {
	var out []client.Object
	for _, p := range l.protocols {
		for slot := range slots {
			port := l.port(p, slot)
			meta := metav1.ObjectMeta{Namespace: namespace, Name: fmt.Sprintf("%s-%d", l.serviceName(), port)}
			parents := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(l.serviceName()), Port: &port,
			}}}
			backend := gatewayv1.BackendRef{BackendObjectReference: gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(l.serviceName()), Port: &port}}
			if p == declaredGRPC {
				out = append(out, &gatewayv1.GRPCRoute{ObjectMeta: meta, Spec: gatewayv1.GRPCRouteSpec{
					CommonRouteSpec: parents,
					Rules:           []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: backend}}}},
				}})
				continue
			}
			out = append(out, &gatewayv1.HTTPRoute{ObjectMeta: meta, Spec: gatewayv1.HTTPRouteSpec{
				CommonRouteSpec: parents,
				Rules:           []gatewayv1.HTTPRouteRule{{BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: backend}}}},
			}})
		}
	}
	return out
}

// judgement looks at every request and refuses none that is made here.
func judgement() *v1alpha1.AuthorizationPolicy {
	rule := v1alpha1.Rule{HTTP: []v1alpha1.HTTPMatch{{Path: &v1alpha1.PathMatch{Type: v1alpha1.PathExact, Value: "/never"}}}}
	for _, l := range layouts {
		if l.to != "judged" {
			continue
		}
		for _, p := range l.protocols {
			for slot := range slots {
				rule.Ports = append(rule.Ports, l.port(p, slot))
			}
		}
	}
	slices.SortFunc(rule.Ports, cmp.Compare[int32])
	return &v1alpha1.AuthorizationPolicy{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: "judgement"},
		Spec: v1alpha1.AuthorizationPolicySpec{
			PodSelector: v1alpha1.PodSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": "judged"}},
			Action:      v1alpha1.Deny, Rules: []v1alpha1.Rule{rule},
		},
	}
}
