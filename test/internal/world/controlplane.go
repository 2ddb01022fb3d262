package world

import (
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	networkingv1 "k8s.io/api/networking/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/kubetest"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// controlPlaneAddr is where a sidecar finds the control plane, in its own namespace.
const controlPlaneAddr = "127.0.0.1:15010"

// Namespace is the Kubernetes namespace of the two pods, which are named client and server, as their service accounts are.
const Namespace = "bench"

// TrustDomain is that of the SPIFFE IDs, if there are any.
const TrustDomain = "cluster.local"

// ControlPlane is that of internal/xdstest in a cluster with the two pods.
type ControlPlane struct {
	*xdstest.ControlPlane
	identities bool
	// changes are those of the configuration so far.
	changes []func(*config.Mesh)
	served  []*served
	// excluded are ports of the pods that are not captured.
	excluded []uint16
	policies []client.Object
	// others are pods at addresses, by service account.
	others map[netip.Addr]map[string]client.Object
}

// served is where sidecars of a network namespace find the control plane.
type served struct {
	ns     NS
	sent   atomic.Int64
	server *xdstest.Server
}

// Service is a Service with endpoints of one IP family, ready ones.
type Service struct {
	Namespace, Name, IP string
	Ports               []corev1.ServicePort
	// Endpoints are addresses; their port is the Service port's target port.
	Endpoints []string
	// Identity is the SPIFFE ID of the endpoints, or mesh.PlainText; empty in a mesh without identities. That of the two pods is
	// their own, but at ports that are not captured.
	Identity string
	// Mirror is a Service of which the first port gets copies of all requests.
	Mirror *Service
}

// Port is a TCP port of a Service, with the target port that its endpoints listen on.
func Port(name string, number, target int32) corev1.ServicePort {
	p := corev1.ServicePort{Name: name, Port: number, Protocol: corev1.ProtocolTCP}
	p.TargetPort.IntVal = target
	return p
}

// NewControlPlane publishes the Services, in a mesh with identities if some endpoint has one. Ports that the capture rules of
// the two pods leave alone are excluded.
func NewControlPlane(services []Service, excluded ...uint16) (*ControlPlane, error) {
	c := &ControlPlane{
		identities: slices.ContainsFunc(services, func(s Service) bool { return s.Identity != "" }),
		excluded:   excluded, others: map[netip.Addr]map[string]client.Object{},
	}
	objects := []client.Object{
		&networkingv1.ServiceCIDR{ObjectMeta: metav1.ObjectMeta{Name: "kubernetes"}, Spec: networkingv1.ServiceCIDRSpec{CIDRs: []string{ServiceCIDR}}},
		kubetest.Namespace(Namespace, nil),
	}
	if err := c.start(xdstest.Options{Objects: objects}); err != nil {
		return nil, err
	}
	if err := c.SetMode(config.Permissive); err != nil {
		return nil, err
	}
	objects = nil
	for _, s := range services {
		more, err := c.objects(s)
		if err != nil {
			return nil, fmt.Errorf("Service %s/%s: %w", s.Namespace, s.Name, err)
		}
		objects = append(objects, more...)
	}
	slices.SortStableFunc(objects, func(a, b client.Object) int { return strings.Compare(fmt.Sprintf("%T", b), fmt.Sprintf("%T", a)) })
	return c, errors.Join(c.Apply(objects...), c.Published())
}

func (c *ControlPlane) start(o xdstest.Options) error {
	o.Config = configtest.WithoutIdentity()
	if c.identities {
		o.Config = config.Default() // with TrustDomain
	}
	for _, change := range c.changes {
		change(o.Config)
	}
	var err error
	c.ControlPlane, err = xdstest.Start(o)
	return err
}

// Configure changes the mesh configuration, as an upgrade of the control plane may: other replicas take its place.
func (c *ControlPlane) Configure(change func(*config.Mesh)) error {
	c.changes = append(c.changes, change)
	var errs []error
	for _, s := range c.served {
		errs = append(errs, s.server.Stop())
	}
	before := c.ControlPlane
	if err := c.start(xdstest.Options{Cluster: before.Cluster, Authority: before.Authority}); err != nil {
		return err
	}
	errs = append(errs, before.Stop())
	for _, s := range c.served {
		errs = append(errs, c.serve(s))
	}
	return errors.Join(errs...)
}

// Serve answers the sidecars of the namespace until Stop. It gives the address for their bootstrap and counts what is sent to
// them.
func (c *ControlPlane) Serve(n NS) (addr string, sent *atomic.Int64, err error) {
	s := &served{ns: n}
	if err := c.serve(s); err != nil {
		return "", nil, err
	}
	c.served = append(c.served, s)
	return controlPlaneAddr, &s.sent, nil
}

func (c *ControlPlane) serve(s *served) error {
	l, err := s.ns.Listen(controlPlaneAddr)
	if err != nil {
		return err
	}
	s.server, err = c.ControlPlane.Serve(&countingListener{l, &s.sent})
	return err
}

// Stop ends the control plane and its servers.
func (c *ControlPlane) Stop() error {
	var errs []error
	for _, s := range c.served {
		errs = append(errs, s.server.Stop())
	}
	return errors.Join(append(errs, c.ControlPlane.Stop())...)
}

// podIPs are those of the two pods.
var podIPs = map[string][]string{"client": {ClientIP, ClientIPv6}, "server": {ServerIP, ServerIPv6}}

// Pod returns one of the two pods, with what is said of what it takes.
func (c *ControlPlane) Pod(name string) (*corev1.Pod, error) {
	pod, err := c.Cluster.Get(&corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: Namespace, Name: name}})
	if err != nil || pod == nil {
		return nil, errors.Join(err, fmt.Errorf("no pod %s", name))
	}
	return pod.(*corev1.Pod), nil
}

// SetMode changes what the pods take.
func (c *ControlPlane) SetMode(mode config.MTLSMode) error {
	return c.SetInbound(mesh.Inbound{Mode: mode})
}

// SetInbound changes it with all that may be said of it: by annotations, AuthorizationPolicies, and a Service that declares
// protocols.
func (c *ControlPlane) SetInbound(in mesh.Inbound) error {
	annotations := map[string]string{}
	if c.identities {
		annotations[config.AnnotationMTLS] = string(in.Mode)
	}
	if len(in.ForwardCert) > 0 {
		annotations[config.AnnotationForwardClientCert] = joined(in.ForwardCert)
	}
	var ports []string
	for port, mode := range in.Ports {
		ports = append(ports, fmt.Sprintf("%d=%s", port, mode))
	}
	if len(ports) > 0 {
		annotations[config.AnnotationMTLSPorts] = strings.Join(ports, ",")
	}
	now, gone := policiesOf(in.Policies), c.policies
	if c.policies = slices.Clone(now); len(in.HTTP) > 0 {
		now = append(now, declares(in.HTTP))
	} else {
		gone = append(gone, declares(nil))
	}
	gone = slices.DeleteFunc(gone, func(o client.Object) bool {
		return slices.ContainsFunc(now, func(n client.Object) bool { return n.GetName() == o.GetName() })
	})
	for _, name := range []string{"client", "server"} {
		pod, err := c.newPod(Namespace, name, name, annotations, podIPs[name]...)
		if err != nil {
			return err
		}
		now = append(now, pod)
	}
	return errors.Join(c.Apply(now...), c.Delete(gone...), c.Published())
}

// newPod makes a pod as the injector has made it, and then somebody has annotated it.
func (c *ControlPlane) newPod(namespace, name, serviceAccount string, annotations map[string]string, ips ...string) (*corev1.Pod, error) {
	var addrs []netip.Addr
	for _, ip := range ips {
		addrs = append(addrs, netip.MustParseAddr(ip))
	}
	pod := xdstest.Pod(namespace, name, addrs...)
	pod.Spec.ServiceAccountName, pod.Labels[podsOfBench] = serviceAccount, "true"
	if len(c.excluded) > 0 {
		pod.Annotations = map[string]string{
			config.AnnotationExcludeInboundPorts: joined(c.excluded), config.AnnotationExcludeOutboundPorts: joined(c.excluded),
		}
	}
	pod, err := c.Inject(pod)
	if err != nil {
		return nil, err
	}
	maps.Copy(pod.Annotations, annotations)
	return pod, nil
}

// NoPod stands for the identity of an address that no pod has.
const NoPod = "no pod"

// SetAddresses changes which pods are at addresses that neither of the two pods has: one with a SPIFFE ID of Namespace, one
// outside the mesh (PlainText), or none (NoPod). Of the empty string there are two who disagree, so that it is not known who
// answers.
func (c *ControlPlane) SetAddresses(identity string, addrs ...netip.Addr) error {
	accounts, err := accountsOf(identity)
	if err != nil {
		return err
	}
	made := map[string]*corev1.Pod{outsider: xdstest.Pod(Namespace, outsider)}
	for _, account := range accounts {
		if account != outsider {
			if made[account], err = c.newPod(Namespace, account, account, nil); err != nil {
				return err
			}
			delete(made[account].Labels, podsOfBench)
		}
	}
	var now, gone []client.Object
	for _, addr := range addrs {
		for account, pod := range c.others[addr] {
			if !slices.Contains(accounts, account) {
				gone = append(gone, pod)
			}
		}
		c.others[addr] = map[string]client.Object{}
		for _, account := range accounts {
			pod := made[account].DeepCopy()
			pod.Name = fmt.Sprintf("%s-at-%s", account, addr)
			pod.UID, pod.Status = "", xdstest.Pod("", "", addr).Status
			c.others[addr][account] = pod
			now = append(now, pod)
		}
	}
	return errors.Join(c.Apply(now...), c.Delete(gone...), c.Published())
}

// outsider is a pod that has no sidecar.
const outsider = "outsider"

// accountsOf are the service accounts of the pods at an address.
func accountsOf(identity string) ([]string, error) {
	switch identity {
	case "":
		return []string{"server", outsider}, nil
	case mesh.PlainText:
		return []string{outsider}, nil
	case NoPod:
		return nil, nil
	}
	id, err := spiffe.Parse(identity)
	if err == nil && id.Namespace != Namespace {
		err = fmt.Errorf("%s: want one of namespace %s", identity, Namespace)
	}
	return []string{id.ServiceAccount}, err
}

// objects are what Kubernetes has of a Service.
func (c *ControlPlane) objects(s Service) ([]client.Object, error) {
	out := []client.Object{
		kubetest.Namespace(s.Namespace, nil),
		&corev1.Service{
			ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name},
			Spec:       corev1.ServiceSpec{ClusterIP: s.IP, ClusterIPs: []string{s.IP}, Ports: s.Ports},
		},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name, Labels: map[string]string{discoveryv1.LabelServiceName: s.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, p := range s.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.TargetPort.IntVal, Protocol: &p.Protocol})
	}
	for i, ip := range s.Endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
		if s.Identity == "" || s.Identity == mesh.PlainText || ip == ClientIP || ip == ServerIP {
			continue
		}
		id, err := spiffe.Parse(s.Identity)
		if err != nil {
			return nil, err
		}
		pod, err := c.newPod(id.Namespace, fmt.Sprintf("%s-%d", s.Name, i), id.ServiceAccount, nil, ip)
		if err != nil {
			return nil, err
		}
		out = append(out, pod)
	}
	if out = append(out, slice); s.Mirror != nil {
		out = append(out, mirror(s))
	}
	return out, nil
}

func mirror(s Service) *gatewayv1.HTTPRoute {
	to := func(s Service) gatewayv1.BackendObjectReference {
		return gatewayv1.BackendObjectReference{Name: gatewayv1.ObjectName(s.Name), Port: &s.Ports[0].Port}
	}
	r := &gatewayv1.HTTPRoute{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Name}}
	r.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: gatewayv1.ObjectName(s.Name)}}
	r.Spec.Rules = []gatewayv1.HTTPRouteRule{{
		BackendRefs: []gatewayv1.HTTPBackendRef{{BackendRef: gatewayv1.BackendRef{BackendObjectReference: to(s)}}},
		Filters: []gatewayv1.HTTPRouteFilter{{
			Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{BackendRef: to(*s.Mirror)},
		}},
	}}
	return r
}

func joined(ports []uint16) string {
	var out []string
	for _, p := range ports {
		out = append(out, strconv.Itoa(int(p)))
	}
	return strings.Join(out, ",")
}

type countingListener struct {
	net.Listener
	sent *atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, l.sent}, err
}

type countingConn struct {
	net.Conn
	sent *atomic.Int64
}

func (c *countingConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}
