package envoy

import (
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	corsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/cors/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const corsFilterName = "envoy.filters.http.cors"

// authTime is how long a request waits for the answer of an authorization server.
const authTime = 10 * time.Second

// edgeFilters are the filters that some routes of a chain need.
type edgeFilters struct {
	cors, sessions bool
	// auths has a filter for each authorization server with its settings, by the filter's name. In Envoy a route can choose
	// another server, but not which headers the server gets.
	auths map[string]*authv3.ExtAuthz
	// clusters of the authorization servers.
	clusters []string
}

// filtersOf returns the filters for the rules of listeners.
func filtersOf(listeners []mesh.Listener) edgeFilters {
	out := edgeFilters{auths: map[string]*authv3.ExtAuthz{}}
	for _, l := range listeners {
		for _, h := range l.Hosts {
			for _, r := range h.Rules {
				a := r.Action
				out.cors = out.cors || a.CORS != nil
				out.sessions = out.sessions || len(a.Pinned) > 0 ||
					slices.ContainsFunc(a.Backends, func(b mesh.Backend) bool { return b.Session != nil })
				if a.Auth != nil {
					filter, cluster := externalAuth(a.Auth)
					out.auths[authName(filter)] = filter
					out.clusters = append(out.clusters, cluster)
				}
			}
		}
	}
	return out
}

// suffix is the end of the name of a route configuration that needs these filters. Routes that need authorization come under
// a new name, so that no listener has the routes without the filters.
func (f edgeFilters) suffix() string {
	if len(f.auths) == 0 {
		return ""
	}
	h := fnv.New64a()
	for _, name := range slices.Sorted(maps.Keys(f.auths)) {
		_, _ = h.Write([]byte(name)) // it never fails
	}
	return fmt.Sprintf("#%x", h.Sum64())
}

// httpFilters returns the filters in their order: a preflight request has no credentials.
func (f edgeFilters) httpFilters() []*hcmv3.HttpFilter {
	var out []*hcmv3.HttpFilter
	if f.cors {
		out = append(out, httpFilter(corsFilterName, &corsv3.Cors{}))
	}
	for _, name := range slices.Sorted(maps.Keys(f.auths)) {
		filter := httpFilter(name, f.auths[name])
		filter.Disabled = true
		out = append(out, filter)
	}
	if f.sessions {
		out = append(out, sessionFilter())
	}
	return out
}

// disabled is the typed_per_filter_config of a route configuration: as in onlyWhereNeeded, a route that needs the filter of
// sessions configures it.
func (f edgeFilters) disabled() map[string]*anypb.Any {
	if !f.sessions {
		return nil
	}
	return map[string]*anypb.Any{sessionFilterName: onlyWhereNeeded[sessionFilterName]}
}

// filter configures the filters of a route.
func (e *edge) filter(route *routev3.Route, a *mesh.Action) {
	set := func(name string, config *anypb.Any) {
		route.TypedPerFilterConfig = maps.Clone(route.TypedPerFilterConfig)
		if route.TypedPerFilterConfig == nil {
			route.TypedPerFilterConfig = map[string]*anypb.Any{}
		}
		route.TypedPerFilterConfig[name] = config
	}
	if a.CORS != nil {
		set(corsFilterName, toAny(corsPolicy(a.CORS)))
	}
	if a.Auth != nil {
		filter, _ := externalAuth(a.Auth)
		set(authName(filter), toAny(&authv3.ExtAuthzPerRoute{Override: &authv3.ExtAuthzPerRoute_CheckSettings{CheckSettings: &authv3.CheckSettings{}}}))
	}
}

// corsPolicy answers preflight requests. Without a match of the origin there is no header for the browser, which then refuses.
// For a wildcard among methods or headers Envoy answers with those that the browser asks for.
func corsPolicy(c *mesh.CORS) *corsv3.CorsPolicy {
	out := &corsv3.CorsPolicy{
		AllowMethods:                 strings.Join(c.AllowMethods, ", "),
		AllowHeaders:                 strings.Join(c.AllowHeaders, ", "),
		ExposeHeaders:                strings.Join(c.ExposeHeaders, ", "),
		AllowCredentials:             wrapperspb.Bool(c.AllowCredentials),
		ForwardNotMatchingPreflights: wrapperspb.Bool(false),
	}
	if c.MaxAge > 0 {
		out.MaxAge = strconv.FormatInt(int64(c.MaxAge/time.Second), 10)
	}
	origins := c.AllowOrigins
	if c.AnyOrigin {
		origins = []string{".*"}
	}
	for _, o := range origins {
		out.AllowOriginStringMatch = append(out.AllowOriginStringMatch, stringMatch(mesh.TextMatch{Type: mesh.Regex, Value: o}))
	}
	return out
}

// externalAuth returns the filter for an authorization server, and the server's cluster. A request is refused if the server
// does not answer.
func externalAuth(a *mesh.ExternalAuth) (filter *authv3.ExtAuthz, cluster string) {
	t := translation{edge: &edge{}}
	kind := kindHTTP1
	if a.GRPC || a.HTTP2 {
		kind = kindHTTP2
	}
	cluster = gatewayClusterName(kind, t.endpoints(a.Target))
	authority := fmt.Sprintf("%s.%s.svc:%d", a.Service.Name, a.Service.Namespace, a.Port)
	filter = &authv3.ExtAuthz{
		TransportApiVersion: corev3.ApiVersion_V3,
		StatPrefix:          a.Service.Namespace + "/" + a.Service.Name,
	}
	if len(a.RequestHeaders) > 0 {
		filter.AllowedHeaders = headerNames(a.RequestHeaders)
	}
	if a.BodyBytes > 0 {
		filter.WithRequestBody = &authv3.BufferSettings{MaxRequestBytes: a.BodyBytes, PackAsBytes: a.GRPC}
	}
	if a.GRPC {
		filter.Services = &authv3.ExtAuthz_GrpcService{GrpcService: &corev3.GrpcService{
			Timeout: durationpb.New(authTime),
			TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
				ClusterName: cluster, Authority: authority,
			}},
		}}
		return filter, cluster
	}
	http := &authv3.HttpService{
		PathPrefix: a.Path,
		ServerUri: &corev3.HttpUri{
			Uri: "http://" + authority, Timeout: durationpb.New(authTime),
			HttpUpstreamType: &corev3.HttpUri_Cluster{Cluster: cluster},
		},
	}
	if len(a.ResponseHeaders) > 0 {
		http.AuthorizationResponse = &authv3.AuthorizationResponse{AllowedUpstreamHeaders: headerNames(a.ResponseHeaders)}
	}
	filter.Services = &authv3.ExtAuthz_HttpService{HttpService: http}
	return filter, cluster
}

func headerNames(names []string) *matcherv3.ListStringMatcher {
	out := &matcherv3.ListStringMatcher{}
	for _, name := range names {
		out.Patterns = append(out.Patterns, &matcherv3.StringMatcher{
			MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}, IgnoreCase: true,
		})
	}
	return out
}

// authName returns the name of the filter with this configuration.
func authName(filter *authv3.ExtAuthz) string {
	h := fnv.New64a()
	_, _ = h.Write(toAny(filter).Value) // it never fails
	return fmt.Sprintf("ext_authz/%x", h.Sum64())
}
