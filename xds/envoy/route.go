package envoy

import (
	"fmt"
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// routeConfigurations returns the route configuration of one Service port at one address: one for all clients, and a variant
// for each namespace that has routes of its own for the port. Routes of connections do not change it, because such
// connections do not come here (ConnectionRoutes). svc is the parent.
func routeConfigurations(name string, svc *mesh.Service, key mesh.EndpointsKey, rules mesh.PortRules, cfg *config.Mesh) []Resource {
	build := func(variant string, rules []mesh.Rule) Resource {
		t := translation{key: key, cfg: cfg}
		return Resource{Type: RouteType, Name: name, Variant: variant, Message: t.routeConfiguration(name, rules)}
	}
	producer := rules.Producer
	if producer == nil || mesh.OfConnections(producer) {
		producer = []mesh.Rule{mesh.Implicit(svc, key.Port)}
	}
	out := []Resource{build("", producer)}
	for _, namespace := range slices.Sorted(maps.Keys(rules.Consumer)) {
		if mesh.OfConnections(rules.Consumer[namespace]) {
			continue
		}
		out = append(out, build(namespace, rules.Consumer[namespace]))
	}
	return out
}

// repeatable is the largest body of a request that can be retried: gRPC's default for the largest message, and its frame.
const repeatable = 4<<20 + 64<<10

// translation translates the rules of one Service port in one IP family, or those of a gateway's listener.
type translation struct {
	key mesh.EndpointsKey
	cfg *config.Mesh
	// edge is nil in a sidecar. In a gateway there is no key.
	edge *edge
}

// routeConfiguration tries the rules in order. It goes by the destination address alone, whatever authority the client
// sends. A request that no rule matches is answered with 404.
func (t translation) routeConfiguration(name string, rules []mesh.Rule) *routev3.RouteConfiguration {
	var routes []*routev3.Route
	for _, r := range rules {
		routes = append(routes, t.routes(r)...)
	}
	if !slices.ContainsFunc(rules, func(r mesh.Rule) bool { return r.Match.Every() }) {
		routes = append(routes, notFound(t.key)...)
	}
	return &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:        "all",
			Domains:     []string{"*"},
			RetryPolicy: hostRetryPolicy(t.cfg), // once, not in each route
			// Envoy keeps the body while the request may have to be retried. Without this, the limit would be the window of a
			// stream (smallestWindow), or 1 MiB in HTTP/1.
			RequestBodyBufferLimit: wrapperspb.UInt64(repeatable),
			Routes:                 routes,
			RequestHeadersToAdd:    refererAgain,
		}},
		RequestHeadersToRemove: []string{destinationHeader, refererHeader},
		TypedPerFilterConfig:   onlyWhereNeeded,
	}
}

// notFound answers 404 if no rule matches. Without it Envoy would answer 404, too, but with the flag of an address that no
// Service has (localReplies).
func notFound(key mesh.EndpointsKey) []*routev3.Route {
	body := fmt.Sprintf("mizzen: no rule of the routes of Service %s, port %d, matches\n", key.Service, key.Port)
	return everyRequest(func() *routev3.Route { return &routev3.Route{Action: answer(404, body)} })
}

// everyRequest returns routes that match every request.
func everyRequest(route func() *routev3.Route) []*routev3.Route {
	var out []*routev3.Route
	for _, match := range routeMatches(mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: "/"}}) {
		r := route()
		r.Match = match
		out = append(out, r)
	}
	return out
}
