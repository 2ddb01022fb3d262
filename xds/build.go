package xds

import (
	"context"

	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayv1beta1 "sigs.k8s.io/gateway-api/apis/v1beta1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/kube"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// builtService is a Service with what is published for it.
type builtService struct {
	// model is nil for what is no part of the mesh: it may still be a parent of routes, refused by it.
	model                      *mesh.Service
	resources                  []envoy.Resource
	published                  []envoy.ID
	problems, endpointProblems []mesh.Problem
	statuses                   []mesh.ParentStatus
}

// build takes one Service through the first two stages.
func (c *Controller) build(ctx context.Context, key mesh.Key) (*builtService, error) {
	out := &builtService{}
	in, err := c.routeInputs(ctx, key)
	if err != nil {
		return nil, err
	}
	var exists bool
	if out.model, out.problems, exists, err = c.model(ctx, key); err != nil {
		return nil, err
	}
	if exists {
		in.Services[key] = out.model
	}
	if out.resources, out.statuses, err = c.translation.service(key, out.model, in); err != nil {
		return nil, err
	}
	if out.model == nil {
		return out, nil
	}
	endpoints, problems, err := c.endpoints(ctx, out.model)
	if err != nil {
		return nil, err
	}
	out.endpointProblems = problems
	out.resources = append(out.resources, endpoints...)
	return out, nil
}

// model reads a Service; it is nil for one that does not exist, and for one that is no part of the mesh.
func (c *Controller) model(ctx context.Context, key mesh.Key) (svc *mesh.Service, problems []mesh.Problem, exists bool, err error) {
	object, err := c.opt.Source.Service(ctx, key)
	if err != nil || object == nil {
		return nil, nil, false, err
	}
	svc, problems = mesh.BuildService(object, c.settings)
	return svc, problems, true, nil
}

// routeInputs brings together what the rules of a Service depend on, but for the Service itself.
func (c *Controller) routeInputs(ctx context.Context, parent mesh.Key) (mesh.RouteInputs, error) {
	in := mesh.RouteInputs{Services: map[mesh.Key]*mesh.Service{}}
	namespaces := map[string]bool{}
	for id := range c.depend.routesOf(parent) {
		switch o := c.opt.Source.Object(objectID(id)).(type) {
		case *gatewayv1.HTTPRoute:
			in.HTTPRoutes = append(in.HTTPRoutes, o)
		case *gatewayv1.GRPCRoute:
			in.GRPCRoutes = append(in.GRPCRoutes, o)
		}
		for _, backend := range c.depend.routes[id].Backends {
			svc, _, exists, err := c.model(ctx, backend)
			if err != nil {
				return in, err
			}
			if exists {
				in.Services[backend] = svc
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
	case kube.HTTPRoute, kube.GRPCRoute:
		return c.depend.setRoute(route, refsOf(c.opt.Source.Object(id)))
	case kube.ReferenceGrant:
		return c.depend.ofGrants(id.Namespace)
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
	}
	return mesh.RouteRefs{}
}

func objectID(id mesh.RouteID) kube.ID { return kube.ID{Kind: kube.Kind(id.Kind), Key: id.Key} }

func (c *Controller) endpoints(ctx context.Context, svc *mesh.Service) ([]envoy.Resource, []mesh.Problem, error) {
	slices, err := c.opt.Source.EndpointSlices(ctx, svc.Key)
	if err != nil {
		return nil, nil, err
	}
	byPort, problems := mesh.Endpoints(svc, slices)
	var out []envoy.Resource
	for key, endpoints := range byPort {
		out = append(out, envoy.EndpointResources(svc, key, endpoints)...)
	}
	return out, problems, nil
}
