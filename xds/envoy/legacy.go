package envoy

import (
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// Before scopes came on demand, every sidecar had one for each Service port, and the route configurations had OutboundName. A sidecar
// that comes from such a control plane keeps its scopes, and the routes of those that it has used. They stay up to date for
// one release. Where it has a scope without routes, it asks as without a scope (demandFilters).

// legacyRoutes returns a route configuration under its former name.
func legacyRoutes(name string, r Resource) Resource {
	routes := proto.CloneOf(r.Message.(*routev3.RouteConfiguration))
	routes.Name = name
	r.Name, r.Message = name, routes
	return r
}

// IsLegacyRoute reports whether a route configuration has a former name.
func IsLegacyRoute(name string) bool { return strings.HasPrefix(name, "outbound/") }

// noLegacyRoutes returns an empty route configuration. A request to it asks for the scope of its destination.
func noLegacyRoutes(name string) Resource {
	return Resource{Type: RouteType, Name: name, Message: &routev3.RouteConfiguration{Name: name}}
}
