package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/anypb"
)

// onDemandFilterName is the filter that waits for a scope's routes.
const onDemandFilterName = "envoy.filters.http.on_demand"

// onlyWhereNeeded is the typed_per_filter_config of every route configuration. It takes out filters that would do nothing:
// even then each costs a request 1 to 2 % of the sidecar's instructions. A route, or a cluster of it, that configures
// the session filter keeps it, because the more specific configuration counts.
//
// Envoy chooses the filters of a request when the request comes. A request that has to wait for its routes gets all of
// them, so none is missing once the routes are there. The filter that waits is needed only then.
var onlyWhereNeeded = map[string]*anypb.Any{
	onDemandFilterName: toAny(&routev3.FilterConfig{Disabled: true}),
	sessionFilterName:  toAny(&routev3.FilterConfig{Disabled: true}),
}
