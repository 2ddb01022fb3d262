package xds

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// translation takes Services and their routes through the second stage, and looks at what comes out
// before it is sent.
type translation struct {
	cfg *config.Mesh
	// check says why Envoy would refuse resources: envoy.Check.
	check func([]envoy.Resource) error
}

// service gives what a Service comes to, nothing if svc is nil, and the statuses of its routes. Envoy refuses
// a route configuration as a whole; so a route of which it would refuse what comes out is refused here, with
// the reason in its status, and harms no other. An error is about the Service itself.
func (t translation) service(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) ([]envoy.Resource, []mesh.ParentStatus, error) {
	resources, statuses, err := t.try(key, svc, in)
	if err == nil {
		return resources, statuses, nil
	}
	in.Refused = map[mesh.RouteID]string{}
	for id, alone := range eachAlone(in) {
		if _, _, err := t.try(key, svc, alone); err != nil {
			in.Refused[id] = fmt.Sprintf("Envoy would refuse it: %v", err)
		}
	}
	if resources, statuses, again := t.try(key, svc, in); again == nil {
		return resources, statuses, nil
	}
	for id := range eachAlone(in) { // only together do they make Envoy refuse
		in.Refused[id] = fmt.Sprintf("Envoy would refuse the routes of Service %s: %v", key, err)
	}
	return t.try(key, svc, in)
}

func (t translation) try(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) ([]envoy.Resource, []mesh.ParentStatus, error) {
	rules, statuses := mesh.BuildRoutes(key, in)
	if svc == nil {
		return nil, statuses, nil
	}
	resources := envoy.ServiceResources(svc, rules, t.cfg)
	return resources, statuses, t.check(resources)
}

// eachAlone gives, for each route, the inputs without the others.
func eachAlone(in mesh.RouteInputs) map[mesh.RouteID]mesh.RouteInputs {
	out := map[mesh.RouteID]mesh.RouteInputs{}
	for _, o := range in.HTTPRoutes {
		alone := in
		alone.HTTPRoutes, alone.GRPCRoutes = []*gatewayv1.HTTPRoute{o}, nil
		out[mesh.RouteID{Kind: mesh.HTTPRoute, Key: mesh.Key{Namespace: o.Namespace, Name: o.Name}}] = alone
	}
	for _, o := range in.GRPCRoutes {
		alone := in
		alone.HTTPRoutes, alone.GRPCRoutes = nil, []*gatewayv1.GRPCRoute{o}
		out[mesh.RouteID{Kind: mesh.GRPCRoute, Key: mesh.Key{Namespace: o.Namespace, Name: o.Name}}] = alone
	}
	return out
}
