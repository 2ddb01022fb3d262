package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// safeRetries are the failures in which no server can have begun to execute the request.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter#x-envoy-retry-on
const safeRetries = "connect-failure,refused-stream,reset-before-request"

// scope binds a destination address to a route configuration, which Envoy asks for at the first
// request (onDemand) or at once. Its key is the text that Envoy writes into destinationHeader.
func scope(destination, name string, onDemand bool) *routev3.ScopedRouteConfiguration {
	return &routev3.ScopedRouteConfiguration{
		Name:                   destination,
		OnDemand:               onDemand,
		RouteConfigurationName: name,
		Key: &routev3.ScopedRouteConfiguration_Key{Fragments: []*routev3.ScopedRouteConfiguration_Key_Fragment{{
			Type: &routev3.ScopedRouteConfiguration_Key_Fragment_StringKey{StringKey: destination},
		}}},
	}
}

// routeConfiguration sends every request to the Service port's cluster: by destination address
// alone, whatever authority, path or method the client sends.
func routeConfiguration(svc *mesh.Service, name string, cfg *config.Mesh) *routev3.RouteConfiguration {
	action := &routev3.Route_Route{Route: routeAction(svc, name)}
	return &routev3.RouteConfiguration{
		Name: name,
		VirtualHosts: []*routev3.VirtualHost{{
			Name:        "all",
			Domains:     []string{"*"},
			RetryPolicy: retryPolicy(cfg), // once, not in each route
			Routes: []*routev3.Route{
				{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}}, Action: action},
				// The empty prefix also takes "OPTIONS *" and absolute-form targets.
				{Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}}, Action: action},
			},
		}},
		RequestHeadersToRemove: []string{destinationHeader},
	}
}

// NoRoutes is a route configuration in which no request finds a route.
func NoRoutes(name string) Resource {
	return Resource{Type: RouteType, Name: name, Message: &routev3.RouteConfiguration{Name: name}}
}

func routeAction(svc *mesh.Service, cluster string) *routev3.RouteAction {
	action := &routev3.RouteAction{
		ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster},
		Timeout:          durationpb.New(0), // the client's own deadline is the only one
		IdleTimeout:      durationpb.New(0), // the connection manager's is for the wait for these routes
	}
	if svc.ClientIPAffinity {
		action.HashPolicy = []*routev3.RouteAction_HashPolicy{{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}}
	}
	return action
}

func retryPolicy(cfg *config.Mesh) *routev3.RetryPolicy {
	attempts := *cfg.Traffic.Retry.Attempts
	if attempts == 0 {
		return nil
	}
	return &routev3.RetryPolicy{
		RetryOn:    safeRetries,
		NumRetries: wrapperspb.UInt32(uint32(attempts)),
		// Another try goes to another endpoint where there is one.
		RetryHostPredicate:            []*routev3.RetryPolicy_RetryHostPredicate{previousHosts},
		HostSelectionRetryMaxAttempts: 5,
	}
}
