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

// serviceBuilder takes Services and their routes through the second stage, and looks at what comes out
// before it is sent.
type serviceBuilder struct {
	cfg *config.Mesh
	// check says why Envoy would refuse resources: envoy.Check.
	check func([]envoy.Resource) error
}

// translated is what a Service comes to.
type translated struct {
	resources []envoy.Resource // none of what is no part of the mesh
	rules     map[uint16]mesh.PortRules
	statuses  []mesh.Status // of its routes
}

// service gives what a Service comes to; svc is nil for one that is no part of the mesh. Envoy refuses a route
// configuration or a listener as a whole; so a route of which it would refuse what comes out is refused here, with
// the reason in its status, and harms no other. An error is about the Service itself.
func (t serviceBuilder) service(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) (translated, error) {
	out, err := t.try(key, svc, in)
	if err == nil {
		return out, nil
	}
	in.Refused = map[mesh.ID]string{}
	for id, alone := range eachAlone(in) {
		if _, err := t.try(key, svc, alone); err != nil {
			in.Refused[id] = fmt.Sprintf("Envoy would refuse it: %v", err)
		}
	}
	if out, again := t.try(key, svc, in); again == nil {
		return out, nil
	}
	for id := range eachAlone(in) { // only together do they make Envoy refuse
		in.Refused[id] = fmt.Sprintf("Envoy would refuse the routes of Service %s: %v", key, err)
	}
	return t.try(key, svc, in)
}

func (t serviceBuilder) try(key mesh.Key, svc *mesh.Service, in mesh.RouteInputs) (translated, error) {
	rules, statuses := mesh.BuildRoutes(key, in)
	out := translated{rules: rules, statuses: statuses}
	if svc == nil {
		return out, nil
	}
	out.resources = envoy.ServiceResources(svc, rules, t.cfg)
	// All Services share the listener of TLSRoutes; here is that of this one.
	alone := envoy.NewProtocolTable()
	alone.Routes.Set(key, svc, rules)
	listeners, _ := alone.Routes.Resources(t.cfg)
	return out, t.check(slices.Concat(out.resources, listeners))
}

// eachAlone gives, for each route, the inputs without the others.
func eachAlone(in mesh.RouteInputs) map[mesh.ID]mesh.RouteInputs {
	out := map[mesh.ID]mesh.RouteInputs{}
	none := in
	none.HTTPRoutes, none.GRPCRoutes, none.TLSRoutes, none.TCPRoutes = nil, nil, nil, nil
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
	return out
}
