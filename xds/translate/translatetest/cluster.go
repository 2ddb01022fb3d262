// Package translatetest has small clusters that change at random, to test properties that hold after any changes. Only
// tests import it.
package translatetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	cryptorand "crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"math/rand/v2"
	"slices"
	"sync"
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

// RefusedPath is the path of some routes, which a test may refuse.
const RefusedPath = "/refused"

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
	mesh.KindNamespace, mesh.KindAuthorizationPolicy, mesh.KindServiceCIDR, mesh.KindGatewayClass, mesh.KindGateway, mesh.KindGateway,
	mesh.KindListenerSet, mesh.KindUDPRoute, mesh.KindBackendTLSPolicy, mesh.KindConfigMap, mesh.KindSecret, mesh.KindNode,
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
		if c.IntN(2) == 0 {
			r.Spec.Hostnames = []gatewayv1.Hostname{pick[gatewayv1.Hostname](c, "a.example.com", "b.example.com", "*.example.com")}
		}
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
		from := pick[gatewayv1.Kind](c, "HTTPRoute", "HTTPRoute", "GRPCRoute", "TCPRoute", "Gateway", "ListenerSet")
		g.Spec.From = []gatewayv1.ReferenceGrantFrom{{Group: gatewayv1.GroupName, Kind: from, Namespace: gatewayv1.Namespace(c.namespace())}}
		g.Spec.To = []gatewayv1.ReferenceGrantTo{{Kind: "Service"}, {Kind: "Secret"}}
		return g
	case mesh.KindTrafficPolicy:
		return c.newTrafficPolicy(named("p", 2))
	case mesh.KindUDPRoute:
		r := &gatewayv1.UDPRoute{ObjectMeta: named("u", 2)}
		r.Spec.ParentRefs = c.parents()
		r.Spec.Rules = []gatewayv1.UDPRouteRule{{BackendRefs: []gatewayv1.BackendRef{c.backend(), c.backend()}}}
		return r
	case mesh.KindGateway:
		return c.newGateway(named("gw", 2))
	case mesh.KindListenerSet:
		s := &gatewayv1.ListenerSet{ObjectMeta: named("gw", 2)}
		s.Spec.ParentRef = gatewayv1.ParentGatewayReference{Name: gatewayv1.ObjectName(c.gateway()), Namespace: new(gatewayv1.Namespace(c.namespace()))}
		for _, l := range c.listeners() {
			s.Spec.Listeners = append(s.Spec.Listeners, gatewayv1.ListenerEntry(l))
		}
		return s
	case mesh.KindBackendTLSPolicy:
		return c.newBackendTLSPolicy(named("tls", 2))
	case mesh.KindConfigMap:
		return &corev1.ConfigMap{ObjectMeta: named("c", 3), Data: map[string]string{
			pick(c, mesh.CAKey, config.GatewayParametersKey, config.GatewayParametersKey): pick(c, "", "replicas: 3", "proxyProtocol: true", "trustedHops: 2", "serviceName: s0", "{proxyProtocol: 1}"),
		}}
	case mesh.KindSecret:
		cert := pick(c, certificates()...)
		return &corev1.Secret{ObjectMeta: named("cert", 2), Type: corev1.SecretTypeTLS, Data: map[string][]byte{corev1.TLSCertKey: cert[0], corev1.TLSPrivateKeyKey: cert[1]}}
	case mesh.KindPod:
		return c.newPod(named("pod-", 4))
	case mesh.KindAuthorizationPolicy:
		return c.newAuthorizationPolicy(named("z", 3))
	}
	meta.Namespace = ""
	if kind == mesh.KindGatewayClass {
		class := &gatewayv1.GatewayClass{ObjectMeta: named("class", 2)}
		if c.IntN(3) == 0 {
			class.Spec.ParametersRef = &gatewayv1.ParametersReference{Kind: "ConfigMap", Namespace: new(gatewayv1.Namespace(c.namespace())), Name: "c2"}
		}
		class.Spec.ControllerName = pick[gatewayv1.GatewayController](c, config.ControllerName, config.ControllerName, "other.example/controller")
		return class
	}
	if kind == mesh.KindServiceCIDR {
		return &networkingv1.ServiceCIDR{ObjectMeta: named("cidr", 2), Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{pick(c, "10.0.0.0/16", "10.96.0.0/12")}}}
	}
	if kind == mesh.KindNode {
		node := &metav1.PartialObjectMetadata{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: string(mesh.KindNode)}, ObjectMeta: named("n", 3)}
		if zone := pick(c, "", "east", "west"); zone != "" {
			node.Labels[corev1.LabelTopologyZone] = zone
		}
		return node
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
func (c *Cluster) gateway() string   { return fmt.Sprint("gw", c.IntN(2)) }

func (c *Cluster) newGateway(meta metav1.ObjectMeta) Object {
	gw := &gatewayv1.Gateway{ObjectMeta: meta}
	gw.Spec.GatewayClassName, gw.Spec.Listeners = gatewayv1.ObjectName(fmt.Sprint("class", c.IntN(2))), c.listeners()
	if c.IntN(2) == 0 {
		gw.Spec.AllowedListeners = &gatewayv1.AllowedListeners{Namespaces: &gatewayv1.ListenerNamespaces{From: new(gatewayv1.NamespacesFromAll)}}
	}
	if c.IntN(4) == 0 {
		gw.Spec.Infrastructure = &gatewayv1.GatewayInfrastructure{ParametersRef: &gatewayv1.LocalParametersReference{Kind: "ConfigMap", Name: fmt.Sprint("c", c.IntN(3))}}
	}
	if c.IntN(4) == 0 {
		gw.Spec.TLS = &gatewayv1.GatewayTLSConfig{Backend: &gatewayv1.GatewayBackendTLS{ClientCertificateRef: &gatewayv1.SecretObjectReference{Name: "cert0"}}}
	}
	return gw
}

func (c *Cluster) listeners() []gatewayv1.Listener {
	var out []gatewayv1.Listener
	for i, protocol := range []gatewayv1.ProtocolType{gatewayv1.HTTPProtocolType, gatewayv1.HTTPProtocolType, gatewayv1.TCPProtocolType, gatewayv1.UDPProtocolType, gatewayv1.TLSProtocolType, gatewayv1.HTTPSProtocolType} {
		if c.IntN(2) == 0 {
			continue
		}
		l := gatewayv1.Listener{Name: gatewayv1.SectionName(fmt.Sprint("l", i)), Port: gatewayv1.PortNumber(80 + c.IntN(2)), Protocol: protocol}
		l.AllowedRoutes = &gatewayv1.AllowedRoutes{Namespaces: &gatewayv1.RouteNamespaces{From: new(pick(c, gatewayv1.NamespacesFromAll, gatewayv1.NamespacesFromSame))}}
		if c.IntN(4) == 0 {
			l.AllowedRoutes.Namespaces.From = new(gatewayv1.NamespacesFromSelector)
			l.AllowedRoutes.Namespaces.Selector = &metav1.LabelSelector{MatchLabels: map[string]string{"app": "x"}}
		}
		switch protocol {
		case gatewayv1.TLSProtocolType:
			l.TLS = &gatewayv1.ListenerTLSConfig{Mode: new(gatewayv1.TLSModePassthrough)}
		case gatewayv1.HTTPSProtocolType:
			ref := gatewayv1.SecretObjectReference{Name: gatewayv1.ObjectName(fmt.Sprint("cert", c.IntN(2)))}
			if c.IntN(3) == 0 {
				ref.Namespace = new(gatewayv1.Namespace(c.namespace()))
			}
			l.TLS = &gatewayv1.ListenerTLSConfig{CertificateRefs: []gatewayv1.SecretObjectReference{ref}}
			if c.IntN(2) == 0 {
				l.TLS.Options = map[gatewayv1.AnnotationKey]gatewayv1.AnnotationValue{config.Group + "/http3": pick[gatewayv1.AnnotationValue](c, "true", "true", "yes")}
			}
		}
		if c.IntN(2) == 0 {
			l.Hostname = new(pick[gatewayv1.Hostname](c, "a.example.com", "*.example.com"))
		}
		out = append(out, l)
	}
	return out
}

func (c *Cluster) newBackendTLSPolicy(meta metav1.ObjectMeta) Object {
	p := &gatewayv1.BackendTLSPolicy{ObjectMeta: meta}
	ref := gatewayv1.LocalPolicyTargetReferenceWithSectionName{}
	ref.Kind, ref.Name = "Service", gatewayv1.ObjectName(c.service())
	p.Spec.TargetRefs = []gatewayv1.LocalPolicyTargetReferenceWithSectionName{ref}
	p.Spec.Validation.Hostname = pick[gatewayv1.PreciseHostname](c, "a.example.com", "b.example.com")
	if c.IntN(2) == 0 {
		p.Spec.Validation.WellKnownCACertificates = new(gatewayv1.WellKnownCACertificatesSystem)
	} else {
		p.Spec.Validation.CACertificateRefs = []gatewayv1.LocalObjectReference{{Kind: "ConfigMap", Name: gatewayv1.ObjectName(fmt.Sprint("c", c.IntN(2)))}}
	}
	return p
}

func (c *Cluster) newService(meta metav1.ObjectMeta) Object {
	ip := fmt.Sprintf("10.0.%d.%d", int(meta.Namespace[0]), int(meta.Name[1]))
	if c.IntN(6) == 0 {
		ip = fmt.Sprintf("10.0.%d.%d", 200, c.changes%250)
	}
	if c.IntN(6) == 0 {
		ip = corev1.ClusterIPNone
	}
	if c.IntN(8) == 0 {
		return &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{Type: corev1.ServiceTypeExternalName, ExternalName: "example.com"}}
	}
	svc := &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{ClusterIP: ip, ClusterIPs: []string{ip}, Selector: map[string]string{"app": pick(c, "x", "y")}}}
	for i := range 1 + c.IntN(2) {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: pick(c, "http", "http", "tcp") + fmt.Sprint(i), Port: int32(80 + i)})
	}
	if ip == corev1.ClusterIPNone {
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol}
	}
	if c.IntN(4) == 0 {
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP})
	}
	if c.IntN(4) == 0 {
		svc.Spec.TrafficDistribution = new(corev1.ServiceTrafficDistributionPreferSameNode)
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
	if c.IntN(2) > 0 {
		ep.Hints = &discoveryv1.EndpointHints{ForNodes: []discoveryv1.ForNode{{Name: fmt.Sprint("n", c.IntN(3))}}, ForZones: []discoveryv1.ForZone{{Name: pick(c, "east", "west")}}}
	}
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
		if c.IntN(2) == 0 {
			ref.Group, ref.Kind = new(gatewayv1.Group(gatewayv1.GroupName)), new(pick[gatewayv1.Kind](c, "Gateway", "Gateway", "ListenerSet"))
			ref.Name = gatewayv1.ObjectName(c.gateway())
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
	if c.IntN(2) == 0 {
		r.Spec.Hostnames = []gatewayv1.Hostname{pick[gatewayv1.Hostname](c, "a.example.com", "b.example.com", "*.example.com")}
	}
	for i := range c.IntN(3) {
		rule := gatewayv1.HTTPRouteRule{Matches: []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: new(pick(c, fmt.Sprint("/", i), fmt.Sprint("/", i), RefusedPath))}}}}
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

// certificates are chains with their private keys. One is no certificate.
var certificates = sync.OnceValue(func() [][2][]byte {
	out := [][2][]byte{{[]byte("none"), []byte("none")}}
	for serial := range int64(2) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), cryptorand.Reader)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{SerialNumber: big.NewInt(serial + 1), DNSNames: []string{"a.example.com"}, NotAfter: time.Now().Add(time.Hour)}
		certificate, err := x509.CreateCertificate(cryptorand.Reader, template, template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			panic(err)
		}
		out = append(out, [2][]byte{
			pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}),
		})
	}
	return out
})
