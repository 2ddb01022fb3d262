package envoy

import (
	"fmt"
	"strings"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	headermutationv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/set_filter_state/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/config"
)

// A sidecar has scopes only for the destinations that its application calls. Envoy cannot ask for a scope. So a request
// without one asks for a cluster that never exists, demandPrefix and the destination. The server hears that a cluster is
// asked for, sends the scope and its routes, and then answers that there is no such cluster. For Envoy that is an answer,
// and the request goes on:
//
//	filter             what it does to a request whose scope Envoy does not have
//	ask_key            sets the key of the scope to AskScope, and demandHeader to the cluster's name
//	ask_scope          has Envoy choose the scope again: now the routes lead to the cluster in demandHeader
//	ask                waits until Envoy has that cluster, or knows that there is none
//	destination_key    sets the key to the destination again
//	destination_scope  has Envoy choose the scope again: now there is one
//
// All routes but those of AskScope disable these filters. Envoy chooses a request's filters by its route, so requests with
// routes do not pass them.
const (
	// AskScope is the name of the scope that every sidecar has, and its key.
	AskScope     = "ask"
	demandHeader = "x-mizzen-demand"
	demandPrefix = "demand/"
)

// demandFilters returns the filters that fetch the scope of a destination.
func demandFilters(cfg *config.Mesh) []*hcmv3.HttpFilter {
	chooseAgain := &setstatev3.Config{ClearRouteCache: true}
	return []*hcmv3.HttpFilter{
		httpFilter("ask_key", headerMutation(
			setHeader(demandHeader, demandPrefix+destinationAddress),
			setHeader(destinationHeader, AskScope),
		)),
		httpFilter("ask_scope", chooseAgain),
		// After the timeout the request goes on, and is answered if there are routes by then.
		httpFilter("ask", &ondemandv3.OnDemand{Odcds: &ondemandv3.OnDemandCds{
			Source: ads(), Timeout: durationpb.New(cfg.OnDemand.Timeout.Duration),
		}}),
		httpFilter("destination_key", headerMutation(
			setHeader(destinationHeader, destinationAddress),
			&mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: demandHeader}},
		)),
		httpFilter("destination_scope", chooseAgain),
	}
}

func headerMutation(mutations ...*mutationv3.HeaderMutation) *headermutationv3.HeaderMutation {
	return &headermutationv3.HeaderMutation{Mutations: &headermutationv3.Mutations{RequestMutations: mutations}}
}

// onlyWhereNeeded is the typed_per_filter_config of every route configuration but that of AskScope. It takes out filters that
// must not run or would do nothing: even then each costs a request 1 to 2 % of the sidecar's instructions. A route, or a
// cluster of it, that configures the session filter keeps it, because the more specific configuration counts. A request
// that has to wait for its scope gets all filters, so none is missing once it has routes.
var onlyWhereNeeded = func() map[string]*anypb.Any {
	disabled := toAny(&routev3.FilterConfig{Disabled: true})
	out := map[string]*anypb.Any{}
	for _, filter := range append(demandFilters(config.Default()), sessionFilter()) {
		out[filter.Name] = disabled
	}
	return out
}()

// DemandOf returns the destination whose scope is asked for by the name of a cluster. ok is false for all other clusters.
func DemandOf(cluster string) (destination string, ok bool) {
	return strings.CutPrefix(cluster, demandPrefix)
}

// Demand returns the name of the cluster by which the scope of a destination is asked for.
func Demand(destination string) (cluster string) { return demandPrefix + destination }

// Scope returns the scope of a destination, or AskScope. Its key, its name and the name of its route configuration are the
// destination.
func Scope(destination string) Resource {
	if destination == AskScope {
		return askScope()
	}
	return Resource{Type: ScopedRouteType, Name: destination, Message: scope(destination)}
}

func scope(key string) *routev3.ScopedRouteConfiguration {
	return &routev3.ScopedRouteConfiguration{
		Name:                   key,
		RouteConfigurationName: key,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: key},
		}}},
	}
}

// askScope returns the scope AskScope with its routes, which lead to the cluster in demandHeader.
func askScope() Resource {
	s := scope(AskScope)
	s.RouteConfigurationName = ""
	s.RouteConfiguration = &routev3.RouteConfiguration{Name: AskScope, VirtualHosts: allHosts(everyRequest(func() *routev3.Route {
		return &routev3.Route{Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: demandHeader},
			IdleTimeout:      durationpb.New(0), // the filter has a timeout of its own
		}}}
	}))}
	return Resource{Type: ScopedRouteType, Name: AskScope, Message: s}
}

// NoService returns the routes for a destination that no Service has.
func NoService(destination string) Resource {
	if IsLegacyRoute(destination) {
		return noLegacyRoutes(destination)
	}
	body := fmt.Sprintf("mizzen: no Service has the address %s\n", destination)
	return Resource{Type: RouteType, Name: destination, Message: &routev3.RouteConfiguration{
		Name: destination,
		VirtualHosts: allHosts(everyRequest(func() *routev3.Route {
			return &routev3.Route{Name: reasonNoService, Action: answer(503, body)}
		})),
		TypedPerFilterConfig: onlyWhereNeeded,
	}}
}

func allHosts(routes []*routev3.Route) []*routev3.VirtualHost {
	return []*routev3.VirtualHost{{Name: "all", Domains: []string{"*"}, Routes: routes}}
}
