package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync/atomic"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// controlPlaneAddr is where a sidecar finds the control plane, in its own namespace.
const controlPlaneAddr = "127.0.0.1:15010"

// ControlPlane is the real stages and ADS server, without informers.
type ControlPlane struct {
	cfg    *config.Mesh
	store  *server.Store
	server *server.Server
	models []*mesh.Service
	pods   *pods
}

// TrustDomain is that of the SPIFFE IDs, if there are any.
const TrustDomain = "cluster.local"

// Service is a Service with endpoints of one IP family, ready ones.
type Service struct {
	Namespace, Name, IP string
	Ports               []corev1.ServicePort
	// Endpoints are addresses; their port is the Service port's target port.
	Endpoints []string
	// Identity is the SPIFFE ID of the endpoints, or mesh.PlainText; empty in a mesh without identities.
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

// NewControlPlane publishes the Services.
func NewControlPlane(services []Service) (*ControlPlane, error) {
	c := &ControlPlane{cfg: configtest.WithoutIdentity(), store: server.NewStore()}
	if slices.ContainsFunc(services, func(s Service) bool { return s.Identity != "" }) {
		c.cfg = config.Default() // with TrustDomain
	}
	c.pods = newPods(c)
	c.server = server.New(server.Options{
		Store: c.store, Log: logr.Discard(), Classes: c.cfg.MTLS.On(),
		Ahead: server.Ahead{WholeMesh: int(*c.cfg.OnDemand.WholeMesh), Namespace: int(*c.cfg.OnDemand.Namespace)},
	})
	change := c.inbound(mesh.Inbound{Mode: config.Permissive})
	set := slices.Concat(change.Set, envoy.BaseClusters(c.cfg))
	for _, s := range services {
		model, resources, err := c.build(s)
		if err != nil {
			return nil, fmt.Errorf("Service %s/%s: %w", s.Namespace, s.Name, err)
		}
		c.models, set = append(c.models, model), append(set, resources...)
	}
	set = append(set, envoy.OutboundListeners(envoy.NewProtocolTable(c.models...), serviceCIDRs, c.cfg)...)
	change.Set = set
	_, err := c.store.Apply(change)
	return c, err
}

var serviceCIDRs = []netip.Prefix{netip.MustParsePrefix(ServiceCIDR)}

// inbound gives both sidecars the same listener.
func (c *ControlPlane) inbound(in mesh.Inbound) server.Change {
	if !c.cfg.MTLS.On() {
		return server.Change{Set: envoy.InboundListeners()}
	}
	change := server.Change{Set: envoy.SecureInboundListeners(in, c.cfg)}
	for _, pod := range []string{"client", "server"} {
		change.Classify(nodeOf(pod).Of(), in.String())
	}
	return change
}

// SetMode changes what the pods take.
func (c *ControlPlane) SetMode(mode config.MTLSMode) error {
	return c.SetInbound(mesh.Inbound{Mode: mode})
}

// Configure changes the mesh configuration for all that is published from then on, as an upgrade of the control plane
// may.
func (c *ControlPlane) Configure(change func(*config.Mesh)) { change(c.cfg) }

// SetInbound changes it with all that may be said of it.
func (c *ControlPlane) SetInbound(in mesh.Inbound) error {
	_, err := c.store.Apply(c.inbound(in))
	return err
}

func (c *ControlPlane) build(s Service) (*mesh.Service, []envoy.Resource, error) {
	object := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{s.IP}, Ports: s.Ports}}
	object.Namespace, object.Name = s.Namespace, s.Name
	model, problems := mesh.BuildService(object, mesh.Options{OpaquePorts: c.cfg.Detection.OpaquePorts})
	if err := joined(problems); err != nil {
		return nil, nil, err
	}
	endpoints, problems := mesh.Endpoints(model, []*discoveryv1.EndpointSlice{s.endpointSlice()}, nil)
	for _, eps := range endpoints {
		for i := range eps {
			eps[i].Identity = s.Identity
		}
	}
	model.Identities = mesh.Identities(endpoints)
	out := envoy.ServiceResources(model, s.rules(), c.cfg)
	for key, eps := range endpoints {
		out = append(out, envoy.EndpointResources(model, key, eps)...)
	}
	return model, out, joined(problems)
}

// rules are those of routes.
func (s Service) rules() map[uint16]mesh.PortRules {
	if s.Mirror == nil {
		return nil
	}
	target := func(s Service) mesh.Target {
		t := mesh.Target{Service: mesh.Key{Namespace: s.Namespace, Name: s.Name}, Port: uint16(s.Ports[0].Port), Families: []mesh.Family{mesh.IPv4}}
		if s.Identity != mesh.PlainText {
			t.Identities = []string{s.Identity}
		}
		return t
	}
	return map[uint16]mesh.PortRules{uint16(s.Ports[0].Port): {Producer: []mesh.Rule{{
		Match: mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: "/"}},
		Action: &mesh.Action{
			Backends: []mesh.Backend{{Target: target(s), Weight: 1, Valid: true}},
			Mirrors:  []mesh.Mirror{{Target: target(*s.Mirror), PerMillion: 1_000_000}},
		},
	}}}}
}

func joined(problems []mesh.Problem) error {
	var errs []error
	for _, p := range problems {
		errs = append(errs, errors.New(p.String()))
	}
	return errors.Join(errs...)
}

func (s Service) endpointSlice() *discoveryv1.EndpointSlice {
	slice := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4}
	for _, p := range s.Ports {
		slice.Ports = append(slice.Ports, discoveryv1.EndpointPort{Name: &p.Name, Port: &p.TargetPort.IntVal})
	}
	for _, ip := range s.Endpoints {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{Addresses: []string{ip}})
	}
	return slice
}

// Serve answers the sidecars of the namespace until ctx ends. It gives the address for their
// bootstrap and counts what is sent to them.
func (c *ControlPlane) Serve(ctx context.Context, n NS) (addr string, sent *atomic.Int64, err error) {
	l, err := n.Listen(controlPlaneAddr)
	if err != nil {
		return "", nil, err
	}
	counted := &countingListener{Listener: l}
	go func() { _ = c.server.Serve(ctx, counted) }() // ends with ctx
	return controlPlaneAddr, &counted.sent, nil
}

type countingListener struct {
	net.Listener
	sent atomic.Int64
}

func (l *countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	return &countingConn{c, &l.sent}, err
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
