package xds

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/status"
)

// builtService is a Service with what is published for it.
type builtService struct {
	// model is nil for what is no part of the mesh: it may still be a parent of routes, refused by it.
	model                      *mesh.Service
	rules                      map[uint16]mesh.PortRules
	resources                  []envoy.Resource
	published                  []envoy.ID
	problems, endpointProblems []mesh.Problem
	statuses                   []status.Status
}

// build takes one Service through the first two stages.
func (c *Controller) build(ctx context.Context, key mesh.Key, seen reading) (*builtService, error) {
	in, err := c.routeInputs(ctx, key, seen)
	if err != nil {
		return nil, err
	}
	read, err := c.read(ctx, key, seen)
	if err != nil {
		return nil, err
	}
	if read.exists {
		in.Services[key] = read.model
	}
	out, err := c.translation.service(key, read.model, in)
	if err != nil {
		return nil, err
	}
	return &builtService{
		model: read.model, problems: read.problems, endpointProblems: read.endpoints.problems,
		rules: out.rules, statuses: statusesOf(out.statuses, read.policies), resources: append(out.resources, read.endpoints.resources...),
	}, nil
}

// readService is a Service with the policy that holds for it.
type readService struct {
	exists bool
	// model is nil for one that does not exist, and for one that is no part of the mesh.
	model     *mesh.Service
	problems  []mesh.Problem
	policies  []mesh.PolicyStatus
	endpoints serviceEndpoints // of one that is held
}

// reading has what Services that are published as one change are built from, each read once: whose clusters have the
// endpoints of another Service must know the same identities as the Service's own.
type reading map[mesh.Key]readService

func (c *Controller) read(ctx context.Context, key mesh.Key, seen reading) (readService, error) {
	if out, ok := seen[key]; ok {
		return out, nil
	}
	out, err := c.readObjects(ctx, key)
	if err != nil {
		return readService{}, err
	}
	published := c.services[key]
	_, held := c.held[key]
	switch {
	case out.model == nil:
	case !held && published != nil:
		out.model.Identities, out.model.Policies = published.model.Identities, published.model.Policies
	default:
		if out.endpoints, err = c.endpoints(ctx, out.model); err != nil {
			return readService{}, err
		}
		out.model.Identities = out.endpoints.identities
		if c.pods != nil {
			out.model.Policies = c.policiesBehind(key)
		}
	}
	seen[key] = out
	return out, nil
}

func (c *Controller) readObjects(ctx context.Context, key mesh.Key) (readService, error) {
	object, err := c.opt.Source.Service(ctx, key)
	if err != nil {
		return readService{}, err
	}
	out := readService{exists: object != nil}
	if out.exists {
		out.model, out.problems = mesh.BuildService(object, c.settings)
	}
	var policies []*gatewayxv1alpha1.XBackendTrafficPolicy
	for policy := range c.depend.policiesOf(key) {
		if o, ok := c.opt.Source.Object(kube.ID{Kind: kube.TrafficPolicy, Key: policy}).(*gatewayxv1alpha1.XBackendTrafficPolicy); ok {
			policies = append(policies, o)
		}
	}
	traffic, statuses := mesh.BuildTrafficPolicies(key, out.model, policies)
	if out.policies = statuses; out.model != nil {
		out.model.Traffic = traffic
	}
	return out, nil
}

func statusesOf(routes []mesh.ParentStatus, policies []mesh.PolicyStatus) []status.Status {
	var out []status.Status
	for _, r := range routes {
		out = append(out, status.Status{Object: objectID(r.Route), Ref: r.Ref, Generation: r.Generation, Conditions: r.Conditions})
	}
	for _, p := range policies {
		id := kube.ID{Kind: kube.TrafficPolicy, Key: p.Policy}
		out = append(out, status.Status{Object: id, Ref: p.Ancestor, Generation: p.Generation, Conditions: p.Conditions})
	}
	return out
}

// routeInputs brings together what the rules of a Service depend on, but for the Service itself.
func (c *Controller) routeInputs(ctx context.Context, parent mesh.Key, seen reading) (mesh.RouteInputs, error) {
	in := mesh.RouteInputs{Services: map[mesh.Key]*mesh.Service{}}
	namespaces := map[string]bool{}
	for id := range c.depend.routesOf(parent) {
		switch o := c.opt.Source.Object(objectID(id)).(type) {
		case *gatewayv1.HTTPRoute:
			in.HTTPRoutes = append(in.HTTPRoutes, o)
		case *gatewayv1.GRPCRoute:
			in.GRPCRoutes = append(in.GRPCRoutes, o)
		case *gatewayv1.TLSRoute:
			in.TLSRoutes = append(in.TLSRoutes, o)
		case *gatewayv1.TCPRoute:
			in.TCPRoutes = append(in.TCPRoutes, o)
		}
		for _, backend := range c.depend.routes[id].Backends {
			svc, err := c.read(ctx, backend, seen)
			if err != nil {
				return in, err
			}
			if svc.exists {
				in.Services[backend] = svc.model
			}
			if !namespaces[backend.Namespace] {
				namespaces[backend.Namespace] = true
				for _, o := range c.opt.Source.Objects(kube.ReferenceGrant, backend.Namespace) {
					in.Grants = append(in.Grants, (*gatewayv1.ReferenceGrant)(o.(*gatewayv1beta1.ReferenceGrant)))
				}
			}
		}
	}
	return in, nil
}

// dependents gives the Services to build again when an object of an optional kind has changed.
func (c *Controller) dependents(id kube.ID) []mesh.Key {
	route := mesh.RouteID{Kind: mesh.RouteKind(id.Kind), Key: id.Key}
	switch id.Kind {
	case kube.HTTPRoute, kube.GRPCRoute, kube.TLSRoute, kube.TCPRoute:
		return c.depend.setRoute(route, refsOf(c.opt.Source.Object(id)))
	case kube.ReferenceGrant:
		return c.depend.ofGrants(id.Namespace)
	case kube.TrafficPolicy:
		var targets []mesh.Key
		if o, ok := c.opt.Source.Object(id).(*gatewayxv1alpha1.XBackendTrafficPolicy); ok {
			targets = mesh.TrafficPolicyTargets(o)
		}
		return c.depend.setPolicy(id.Key, targets)
	}
	return nil
}

// refsOf gives what a route names; nothing if it does not exist.
func refsOf(o client.Object) mesh.RouteRefs {
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return mesh.HTTPRouteRefs(o)
	case *gatewayv1.GRPCRoute:
		return mesh.GRPCRouteRefs(o)
	case *gatewayv1.TLSRoute:
		return mesh.TLSRouteRefs(o)
	case *gatewayv1.TCPRoute:
		return mesh.TCPRouteRefs(o)
	}
	return mesh.RouteRefs{}
}

func objectID(id mesh.RouteID) kube.ID { return kube.ID{Kind: kube.Kind(id.Kind), Key: id.Key} }
