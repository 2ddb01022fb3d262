// Package translatetest has small clusters that change at random, to test properties that hold after any changes. Only
// tests import it.
package translatetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/sidecartest"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// PodIPs are the addresses of pods, in two ranges. They are few, so that pods reuse them.
var PodIPs = []string{"10.1.0.1", "10.1.0.2", "10.1.1.1"}

// Object is an object of the Kubernetes API.
type Object interface {
	metav1.Object
	runtime.Object
}

// Cluster has the current objects.
type Cluster struct {
	*rand.Rand
	Objects map[mesh.ID]Object
	changes int
}

// New returns an empty cluster. Clusters with the same seed change in the same way.
func New(seed uint64) *Cluster {
	return &Cluster{Rand: rand.New(rand.NewPCG(seed, 11)), Objects: map[mesh.ID]Object{}}
}

// Kinds are the kinds that Change can change. A kind that is listed twice changes twice as often.
var Kinds = []mesh.Kind{
	mesh.KindService, mesh.KindService, mesh.KindEndpointSlice, mesh.KindHTTPRoute, mesh.KindHTTPRoute, mesh.KindHTTPRoute, mesh.KindGRPCRoute,
	mesh.KindReferenceGrant, mesh.KindTrafficPolicy, mesh.KindTCPRoute, mesh.KindTLSRoute, mesh.KindPod, mesh.KindPod, mesh.KindPod, mesh.KindPod,
	mesh.KindNamespace, mesh.KindAuthorizationPolicy, mesh.KindServiceCIDR,
}

// Change creates, changes or deletes one object of the kinds, and calls tell for each step. before is nil for a new
// object, and now for a deleted one.
func (c *Cluster) Change(kinds []mesh.Kind, tell func(id mesh.ID, before, now Object)) {
	c.changes++
	id := mesh.ID{Kind: pick(c, kinds...)}
	meta := metav1.ObjectMeta{
		Namespace: c.namespace(), Labels: map[string]string{"app": pick(c, "x", "y")}, UID: types.UID(fmt.Sprint("uid-", c.changes)),
		CreationTimestamp: metav1.NewTime(time.Unix(int64(c.IntN(3)), 0)), Generation: 1, ResourceVersion: fmt.Sprint(c.changes),
	}
	object := c.object(id.Kind, meta)
	id.Key = mesh.Key{Namespace: object.GetNamespace(), Name: object.GetName()}
	own := func(o Object) Object { return o.DeepCopyObject().(Object) }
	switch before := c.Objects[id]; {
	case before == nil:
		c.Objects[id] = object
		tell(id, nil, own(object))
	case c.IntN(3) == 0:
		delete(c.Objects, id)
		tell(id, own(before), nil)
		if c.IntN(2) == 0 { // created again at once
			c.Objects[id] = object
			tell(id, nil, own(object))
		}
	case before.GetGeneration() > 0 && c.IntN(5) == 0: // only its status changes
		same := own(before)
		same.SetResourceVersion(fmt.Sprint(c.changes))
		tell(id, own(before), same)
	default:
		object.SetUID(before.GetUID())
		object.SetCreationTimestamp(before.GetCreationTimestamp())
		object.SetGeneration(before.GetGeneration() + 1)
		c.Objects[id] = object
		tell(id, own(before), own(object))
	}
}

func (c *Cluster) object(kind mesh.Kind, meta metav1.ObjectMeta) Object {
	named := func(prefix string, n int) metav1.ObjectMeta {
		meta.Name = fmt.Sprint(prefix, c.IntN(n))
		return meta
	}
	switch kind {
	case mesh.KindService:
		return c.newService(named("s", 4))
	case mesh.KindEndpointSlice:
		service := c.service()
		meta.Name = pick(c, service+"-x", service+"-x", "wanders")
		meta.Labels[discoveryv1.LabelServiceName] = service
		return c.newSlice(meta)
	case mesh.KindHTTPRoute:
		return c.newHTTPRoute(named("r", 4))
	case mesh.KindGRPCRoute:
		r := &gatewayv1.GRPCRoute{ObjectMeta: named("g", 2)}
		r.Spec.ParentRefs = c.parents()
		r.Spec.Rules = []gatewayv1.GRPCRouteRule{{BackendRefs: []gatewayv1.GRPCBackendRef{{BackendRef: c.backend()}}}}
		return r
	case mesh.KindTCPRoute:
		r := &gatewayv1.TCPRoute{ObjectMeta: named("t", 3)}
		r.Spec.ParentRefs = c.parents()
		r.Spec.Rules = []gatewayv1.TCPRouteRule{{BackendRefs: []gatewayv1.BackendRef{c.backend(), c.backend()}}}
		return r
	case mesh.KindTLSRoute:
		r := &gatewayv1.TLSRoute{ObjectMeta: named("n", 2)}
		r.Spec.ParentRefs = c.parents()
		r.Spec.Hostnames = []gatewayv1.Hostname{pick[gatewayv1.Hostname](c, "a.example.com", "*.example.com"), "b.example.com"}
		r.Spec.Rules = []gatewayv1.TLSRouteRule{{BackendRefs: []gatewayv1.BackendRef{c.backend()}}}
		return r
	case mesh.KindReferenceGrant:
		g := &gatewayv1beta1.ReferenceGrant{ObjectMeta: named("grant", 1)}
		from := pick[gatewayv1.Kind](c, "HTTPRoute", "GRPCRoute", "TCPRoute")
		g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: from, Namespace: gatewayv1.Namespace(c.namespace())}}
		g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}}
		return g
	case mesh.KindTrafficPolicy:
		return c.newTrafficPolicy(named("p", 2))
	case mesh.KindPod:
		return c.newPod(named("pod-", 4))
	case mesh.KindAuthorizationPolicy:
		return c.newAuthorizationPolicy(named("z", 3))
	}
	meta.Namespace = ""
	if kind == mesh.KindServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: named("cidr", 2), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{pick(c, "10.0.0.0/16", "10.96.0.0/12")}}}
	}
	meta.Name = c.namespace()
	ns := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: string(mesh.KindNamespace)}, ObjectMeta: meta}
	if mode := pick(c, "", "strict", "permissive", "no mode"); mode != "" {
		ns.Annotations = map[string]string{config.AnnotationMTLS: mode}
	}
	return ns
}

func pick[T any](c *Cluster, from ...T) T { return from[c.IntN(len(from))] }

func (c *Cluster) namespace() string { return pick(c, "a", "b") }
func (c *Cluster) service() string   { return fmt.Sprint("s", c.IntN(4)) }

func (c *Cluster) newService(meta metav1.ObjectMeta) Object {
	ip := fmt.Sprintf("10.0.%d.%d", int(meta.Namespace[0]), int(meta.Name[1]))
	if c.IntN(6) == 0 {
		ip = fmt.Sprintf("10.0.%d.%d", 200, c.changes%250)
	}
	if c.IntN(6) == 0 {
		ip = corev1.ClusterIPNone
	}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": pick(c, "x", "y")}}}
	for i := range 1 + c.IntN(2) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: pick(c, "http", "http", "tcp") + fmt.Sprint(i), Port: int32(80 + i)})
	}
	if c.IntN(3) == 0 {
		svc.Annotations = map[string]string{config.AnnotationTimeout: pick(c, "1s", "2s", "x")}
	}
	return svc
}

func (c *Cluster) newSlice(meta metav1.ObjectMeta) Object {
	slice := &discoveryv1.EndpointSlice{ObjectMeta: meta, AddressType: discoveryv1.AddressTypeIPv4}
	for i := range 2 {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: new(fmt.Sprint("http", i)), Port: new(int32(8080 + i)), Protocol: new(corev1.ProtocolTCP)})
	}
	for range c.IntN(3) {
		slice.Endpoints = append(slice.Endpoints, c.endpoint(meta.Namespace))
	}
	return slice
}

// endpoint returns an endpoint that names a pod, or has only an address.
func (c *Cluster) endpoint(namespace string) discoveryv1.Endpoint {
	ep := discoveryv1.Endpoint{Addresses: []string{PodIPs[c.IntN(len(PodIPs))]}}
	if c.IntN(3) > 0 {
		ep.TargetRef = &corev1.ObjectReference{Kind: "Pod", Namespace: namespace, Name: fmt.Sprint("pod-", c.IntN(4))}
		pod, ok := c.Objects[mesh.ID{Kind: mesh.KindPod, Key: mesh.Key{Namespace: namespace, Name: ep.TargetRef.Name}}].(*corev1.Pod)
		if ok && c.IntN(4) > 0 {
			ep.TargetRef.UID = pod.UID
			if len(pod.Status.PodIPs) > 0 {
				ep.Addresses[0] = pod.Status.PodIPs[0].IP
			}
		}
	}
	return ep
}

func (c *Cluster) parents() []gatewayv1.ParentReference {
	var out []gatewayv1.ParentReference
	for range c.IntN(3) {
		ref := gatewayv1.ParentReference{
			Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
			Name: gatewayv1.ObjectName(c.service()), Namespace: new(gatewayv1.Namespace(c.namespace())),
		}
		if c.IntN(3) == 0 {
			ref.Port = new(gatewayv1.PortNumber(80 + c.IntN(2)))
		}
		out = append(out, ref)
	}
	return out
}

func (c *Cluster) backend() gatewayv1.BackendRef {
	ref := gatewayv1.BackendRef{Weight: new(int32(c.IntN(3)))}
	ref.Name, ref.Port = gatewayv1.ObjectName(c.service()), new(gatewayv1.PortNumber(80+c.IntN(2)))
	if c.IntN(2) == 0 {
		ref.Namespace = new(gatewayv1.Namespace(c.namespace()))
	}
	return ref
}

func (c *Cluster) newHTTPRoute(meta metav1.ObjectMeta) Object {
	r := &gatewayv1.HTTPRoute{ObjectMeta: meta}
	r.Spec.ParentRefs = c.parents()
	for i := range 1 + c.IntN(2) {
		rule := gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: new(fmt.Sprint("/", i))}}}}
		for range c.IntN(3) {
			rule.BackendRefs = append(rule.BackendRefs, gatewayv1.HTTPBackendRef{BackendRef: c.backend()})
		}
		if c.IntN(3) == 0 {
			rule.Filters = []gatewayv1.HTTPRouteFilter{{
				Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: c.backend().BackendObjectReference},
			}}
		}
		r.Spec.Rules = append(r.Spec.Rules, rule)
	}
	return r
}

func (c *Cluster) newTrafficPolicy(meta metav1.ObjectMeta) Object {
	p := &gatewayxv1alpha1.XBackendTrafficPolicy{ObjectMeta: meta}
	for range 1 + c.IntN(2) {
		ref := gatewayv1.LocalPolicyTargetReference{Kind: "Service", Name: gatewayv1.ObjectName(c.service())}
		if !slices.Contains(p.Spec.TargetRefs, ref) {
			p.Spec.TargetRefs = append(p.Spec.TargetRefs, ref)
		}
	}
	p.Spec.SessionPersistence = &gatewayv1.SessionPersistence{SessionName: new(pick(c, "x", "y"))}
	return p
}

func (c *Cluster) newAuthorizationPolicy(meta metav1.ObjectMeta) Object {
	p := &v1alpha1.AuthorizationPolicy{ObjectMeta: meta, Spec: v1alpha1.AuthorizationPolicySpec{DryRun: c.IntN(4) == 0}}
	if c.IntN(2) == 0 {
		p.Spec.PodSelector.MatchLabels = map[string]v1alpha1.LabelValue{"app": pick[v1alpha1.LabelValue](c, "x", "y")}
	}
	for range c.IntN(3) {
		p.Spec.Rules = append(p.Spec.Rules, v1alpha1.Rule{From: []v1alpha1.Peer{{Namespace: c.namespace()}}})
	}
	return p
}

// newPod returns a pod that is mostly part of the mesh. Its sidecar may not capture port 8081.
func (c *Cluster) newPod(meta metav1.ObjectMeta) Object {
	pod := Pod(meta.Namespace, meta.Name, pick(c, "x", "y"), PodIPs[c.IntN(len(PodIPs))])
	pod.UID, pod.Labels, pod.CreationTimestamp, pod.ResourceVersion = meta.UID, meta.Labels, meta.CreationTimestamp, meta.ResourceVersion
	if c.IntN(3) == 0 {
		pod.Annotations[config.AnnotationMTLS] = pick(c, "strict", "permissive", "no mode")
	}
	pod.Spec.Containers = []corev1.Container{{Ports: []corev1.ContainerPort{{Name: "main", ContainerPort: int32(8080 + c.IntN(2))}}}}
	switch c.IntN(8) {
	case 0:
		pod.Spec.InitContainers = nil
	case 1:
		pod.Spec.HostNetwork = true
	case 2:
		pod.Status.Phase = corev1.PodSucceeded
	case 3:
		pod.Status.PodIPs = nil
	case 4:
		pod.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)}
	case 5:
		pod.Spec.InitContainers = sidecartest.Containers("--exclude-inbound-ports=8081")
	}
	return pod
}

// Pod returns a running pod of the mesh.
func Pod(namespace, name, serviceAccount, ip string) *corev1.Pod {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{}}}
	pod.Spec.ServiceAccountName = serviceAccount
	pod.Spec.InitContainers = sidecartest.Containers()
	pod.Status.Phase, pod.Status.PodIPs = corev1.PodRunning, []corev1.PodIP{{IP: ip}}
	return pod
}
