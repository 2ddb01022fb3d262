package main

import (
	"context"
	"sync"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/gateway"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// gatewayPorts has the ports of the Gateways' Services, as the translator knows them.
type gatewayPorts struct {
	mu       sync.Mutex
	ports    map[types.NamespacedName][]mesh.GatewayPort
	deployer *gateway.Deployer
}

// take takes what has changed, and has the Deployer look at it.
func (g *gatewayPorts) take(changed map[mesh.Key][]mesh.GatewayPort) {
	for key, ports := range changed {
		g.set(types.NamespacedName(key), ports)
		g.deployer.Check(types.NamespacedName(key))
	}
}

func (g *gatewayPorts) set(name types.NamespacedName, ports []mesh.GatewayPort) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ports[name] = ports; ports == nil {
		delete(g.ports, name)
	}
}

func (g *gatewayPorts) get(name types.NamespacedName) ([]mesh.GatewayPort, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	ports, ok := g.ports[name]
	return ports, ok
}

// setupGateways has the leader deploy Gateways and make the GatewayClass. identity is nil in a mesh without identities. It returns
// what takes changes of their ports, or nil.
func (c *controller) setupGateways(ctx context.Context, cfg *config.Mesh, identity *identity) (func(map[mesh.Key][]mesh.GatewayPort), error) {
	if !*cfg.Gateways.Enabled {
		return nil, nil
	}
	ports := &gatewayPorts{ports: map[types.NamespacedName][]mesh.GatewayPort{}}
	o := gateway.Options{
		Ports:  ports.get,
		Config: cfg, Client: c.mgr.GetClient(), Live: c.mgr.GetAPIReader(), Cache: c.mgr.GetCache(),
		Events: newEvents(ctx, c.mgr), Log: c.log.WithName("gateway"), ClassOwner: c.clusterOwner,
	}
	if identity != nil {
		o.TrustBundle = func() (string, <-chan struct{}) {
			bundle, _, replaced := identity.authority.Bundle()
			return bundle, replaced
		}
	}
	var err error
	if ports.deployer, err = gateway.New(o); err != nil {
		return nil, err
	}
	c.leader.OnLead(ports.deployer.Lead)
	return ports.take, nil
}

// clusterOwner returns the MutatingWebhookConfiguration, which goes with the installation as the Service does, and has no namespace.
func (c *controller) clusterOwner(ctx context.Context) (*metav1.OwnerReference, error) {
	gvk := admissionv1.SchemeGroupVersion.WithKind("MutatingWebhookConfiguration")
	o := &metav1.PartialObjectMetadata{}
	o.SetGroupVersionKind(gvk)
	if err := c.mgr.GetAPIReader().Get(ctx, types.NamespacedName{Name: c.opts.webhookConfigName}, o); err != nil {
		return nil, err
	}
	return &metav1.OwnerReference{APIVersion: gvk.GroupVersion().String(), Kind: gvk.Kind, Name: o.Name, UID: o.UID}, nil
}
