package translate

import (
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// serviceBuilder takes Services and their routes through the second stage, and validates the result before it is sent.
type serviceBuilder struct {
	cfg *config.Mesh
	// check returns why Envoy would refuse resources: envoy.Check.
	check func([]envoy.Resource) error
}

// translated is the result of the second stage for one Service.
type translated struct {
	resources []envoy.Resource // empty for a Service outside the mesh
	rules     map[uint16]mesh.PortRules
	statuses  []mesh.Status // of its routes
}

// service translates a Service; svc is nil for one outside the mesh. An error is about the Service itself.
func (t serviceBuilder) service(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) (translated, error) {
	return refusing(in, "Service "+key.String(), func(in mesh.RouteInputs) (translated, error) { return t.try(key, svc, in) })
}

// refusing translates a parent of routes by try. Envoy refuses a route configuration or a listener as a whole. Therefore a route
// whose resources Envoy would refuse is refused here, with the reason in its status, and harms no other route. An error is about the
// parent itself.
func refusing[T any](in mesh.RouteInputs, parent string, try func(mesh.RouteInputs) (T, error)) (T, error) {
	out, err := try(in)
	if err == nil {
		return out, nil
	}
	in.Refused = refusedAlone(in, try)
	if out, again := try(in); again == nil {
		return out, nil
	}
	for id := range eachAlone(in) { // Envoy accepts each route alone, but not all together
		in.Refused[id] = fmt.Sprintf("Envoy would refuse the routes of %s: %v", parent, err)
	}
	return try(in)
}

// refusedAlone returns the routes that Envoy would refuse even without the others, with the reason.
func refusedAlone[T any](in mesh.RouteInputs, try func(mesh.RouteInputs) (T, error)) map[mesh.ID]string {
	out := map[mesh.ID]string{}
	for id, alone := range eachAlone(in) {
		if _, err := try(alone); err != nil {
			out[id] = fmt.Sprintf("Envoy would refuse it: %v", err)
		}
	}
	return out
}

func (t serviceBuilder) try(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) (translated, error) {
	rules, statuses := mesh.BuildRoutes(key, in)
	out := translated{rules: rules, statuses: statuses}
	if svc == nil {
		return out, nil
	}
	out.resources = append(envoy.ServiceResources(svc, rules, t.cfg), envoy.GatewayClusters(svc, t.cfg)...)
	// All Services share the listener of TLSRoutes. This is what it would be for this Service alone.
	alone := envoy.NewProtocolTable()
	alone.Routes.Set(key, svc, rules)
	listeners, _ := alone.Routes.Resources(t.cfg)
	return out, t.check(slices.Concat(out.resources, listeners))
}

// eachAlone returns, for each route, the inputs without the other routes.
func eachAlone(in mesh.RouteInputs) map[mesh.ID]mesh.RouteInputs {
	out := map[mesh.ID]mesh.RouteInputs{}
	none := in
	none.HTTPRoutes, none.GRPCRoutes, none.TLSRoutes, none.TCPRoutes, none.UDPRoutes = nil, nil, nil, nil, nil
	add := func(kind mesh.Kind, o metav1.Object, set func(*mesh.RouteInputs)) {
		alone := none
		set(&alone)
		out[mesh.ID{Kind: kind, Key: mesh.Key{Namespace: o.GetNamespace(), Name: o.GetName()}}] = alone
	}
	for _, o := range in.HTTPRoutes {
		add(mesh.KindHTTPRoute, o, func(in *mesh.RouteInputs) { in.HTTPRoutes = []*gatewayv1.HTTPRoute{o} })
	}
	for _, o := range in.GRPCRoutes {
		add(mesh.KindGRPCRoute, o, func(in *mesh.RouteInputs) { in.GRPCRoutes = []*gatewayv1.GRPCRoute{o} })
	}
	for _, o := range in.TLSRoutes {
		add(mesh.KindTLSRoute, o, func(in *mesh.RouteInputs) { in.TLSRoutes = []*gatewayv1.TLSRoute{o} })
	}
	for _, o := range in.TCPRoutes {
		add(mesh.KindTCPRoute, o, func(in *mesh.RouteInputs) { in.TCPRoutes = []*gatewayv1.TCPRoute{o} })
	}
	for _, o := range in.UDPRoutes {
		add(mesh.KindUDPRoute, o, func(in *mesh.RouteInputs) { in.UDPRoutes = []*gatewayv1.UDPRoute{o} })
	}
	return out
}
