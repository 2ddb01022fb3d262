package world

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/mizzen-mesh/mizzen/config"
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
}

// Service is a Service with endpoints of one IP family, ready ones.
type Service struct {
	Namespace, Name, IP string
	Ports               []corev1.ServicePort
	// Endpoints are addresses; their port is the Service port's target port.
	Endpoints []string
}

// Port is a TCP port of a Service, with the target port that its endpoints listen on.
func Port(name string, number, target int32) corev1.ServicePort {
	p := corev1.ServicePort{Name: name, Port: number, Protocol: corev1.ProtocolTCP}
	p.TargetPort.IntVal = target
	return p
}

// NewControlPlane publishes the Services.
func NewControlPlane(services []Service) (*ControlPlane, error) {
	c := &ControlPlane{cfg: config.Default(), store: server.NewStore()}
	c.server = server.New(server.Options{
		Store: c.store, Log: logr.Discard(),
		Ahead: server.Ahead{WholeMesh: int(*c.cfg.OnDemand.WholeMesh), Namespace: int(*c.cfg.OnDemand.Namespace)},
	})
	set := append(envoy.BaseClusters(c.cfg), envoy.InboundListeners()...)
	var models []*mesh.Service
	for _, s := range services {
		model, resources, err := c.build(s)
		if err != nil {
			return nil, fmt.Errorf("Service %s/%s: %w", s.Namespace, s.Name, err)
		}
		models, set = append(models, model), append(set, resources...)
	}
	cidrs := []netip.Prefix{netip.MustParsePrefix(ServiceCIDR)}
	set = append(set, envoy.OutboundListeners(envoy.NewProtocolTable(models...), cidrs, c.cfg)...)
	_, err := c.store.Apply(server.Change{Set: set})
	return c, err
}

func (c *ControlPlane) build(s Service) (*mesh.Service, []envoy.Resource, error) {
	object := &corev1.Service{Spec: corev1.ServiceSpec{ClusterIPs: []string{s.IP}, Ports: s.Ports}}
	object.Namespace, object.Name = s.Namespace, s.Name
	model, problems := mesh.BuildService(object, mesh.Options{OpaquePorts: c.cfg.Detection.OpaquePorts})
	if err := joined(problems); err != nil {
		return nil, nil, err
	}
	out := envoy.ServiceResources(model, nil, c.cfg)
	endpoints, problems := mesh.Endpoints(model, []*discoveryv1.EndpointSlice{s.endpointSlice()}, nil)
	for key, eps := range endpoints {
		out = append(out, envoy.EndpointResources(model, key, eps)...)
	}
	return model, out, joined(problems)
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
