package envoy

import (
	"fmt"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// routes returns the Envoy routes of one rule, in the order in which they are tried. If several backends have sessions,
// the routes of these sessions come first.
func (t translation) routes(r mesh.Rule) []*routev3.Route {
	var out []*routev3.Route
	for _, p := range r.Action.Pinned {
		action := *r.Action
		action.Backends = []mesh.Backend{p}
		action.Backends[0].Weight = 1
		out = append(out, t.routesOf(mesh.Rule{Origin: r.Origin, Match: r.Match, Action: &action}, p.Session)...)
	}
	return append(out, t.routesOf(r, nil)...)
}

// routesOf returns the routes for requests with a session, or for all requests if session is nil.
func (t translation) routesOf(r mesh.Rule, session *mesh.Session) []*routev3.Route {
	var out []*routev3.Route
	for _, match := range routeMatches(r.Match) {
		if t.edge != nil && match.GetConnectMatcher() != nil {
			continue // a gateway has no tunnels
		}
		add := func(match *routev3.RouteMatch, grpc bool) {
			if session != nil {
				pinnedMatch(match, session)
			}
			route := &routev3.Route{Match: match}
			if r.Origin.Route.Name != "" {
				route.Name = r.Origin.String()
			}
			t.decide(route, r, grpc)
			out = append(out, route)
		}
		bounded := r.Action.Calls.Timeout > 0 && len(r.Action.Backends) > 0
		if bounded && r.Match.GRPC == nil && match.GetConnectMatcher() == nil {
			grpc := conditions(r.Match)
			grpc.PathSpecifier, grpc.Grpc = match.PathSpecifier, &routev3.RouteMatch_GrpcRouteMatchOptions{}
			add(grpc, true) // see setTimeout
		}
		add(match, r.Match.GRPC != nil)
	}
	return out
}

// decide sets a route's action and its changes of headers.
func (t translation) decide(route *routev3.Route, r mesh.Rule, grpc bool) {
	a := r.Action
	switch {
	case a.Redirect != nil:
		route.Action = &routev3.Route_Redirect{Redirect: t.redirect(a.Redirect, r.Match)}
	case a.Fail != 0:
		route.Action = answer(a.Fail, t.reason(r))
	default:
		action := t.routeAction(r, grpc)
		route.Action = &routev3.Route_Route{Route: action}
		if action.GetCluster() != "" {
			route.TypedPerFilterConfig = sessionConfig(a.Backends[0].Session, r.Match)
		}
	}
	if t.edge != nil {
		t.edge.filter(route, a)
	}
	if ownHeaders(a.Backends) {
		return // the clusters include the rule's changes: see weightedClusters
	}
	route.RequestHeadersToAdd, route.RequestHeadersToRemove = headerOptions(a.RequestHeaders), removed(a.RequestHeaders)
	route.ResponseHeadersToAdd, route.ResponseHeadersToRemove = headerOptions(a.ResponseHeaders), a.ResponseHeaders.Remove
}

// reason returns what a caller is told of a rule that fails. A gateway's callers may be strangers.
func (t translation) reason(r mesh.Rule) string {
	if t.edge != nil {
		return ""
	}
	return fmt.Sprintf("mizzen: %s: %s\n", r.Origin, r.Action.FailReason)
}

func answer(status uint32, body string) *routev3.Route_DirectResponse {
	if body == "" {
		return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: status}}
	}
	return &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{
		Status: status,
		Body:   &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
	}}
}

func (t translation) routeAction(r mesh.Rule, grpc bool) *routev3.RouteAction {
	a := r.Action
	action := &routev3.RouteAction{
		IdleTimeout: durationpb.New(0), // the connection manager's timeout is only for the wait for routes
	}
	if t.edge != nil {
		action.IdleTimeout = durationpb.New(streamIdleTime(r))
	}
	near := slices.ContainsFunc(a.Backends, func(b mesh.Backend) bool { return b.Near })
	if ownRetries(a.Calls) || near {
		action.RetryPolicy = retryPolicy(a.Calls, t.cfg)
	}
	if near && action.RetryPolicy.GetRetryOn() != "" {
		action.RetryPolicy.RetryPriority = previousLevels
	}
	if a.Calls.OptedIn() {
		action.Priority = corev3.RoutingPriority_HIGH
	}
	setTimeout(action, a.Calls.Timeout, grpc)
	t.setClusters(action, r)
	rewrite(action, a.Rewrite, r.Match)
	for _, m := range a.Mirrors {
		action.RequestMirrorPolicies = append(action.RequestMirrorPolicies, &routev3.RouteAction_RequestMirrorPolicy{
			Cluster: t.mirrorName(r, m.Target),
			RuntimeFraction: &corev3.RuntimeFractionalPercent{DefaultValue: &typev3.FractionalPercent{
				Numerator: m.PerMillion, Denominator: typev3.FractionalPercent_MILLION,
			}},
			// The copy is the same request. Otherwise Envoy would call the host "<host>-shadow".
			DisableShadowHostSuffixAppend: true,
		})
	}
	action.HashPolicy = hashPolicies(a.Backends)
	return action
}

// cluster returns the name of a Service port's cluster for the requests of a rule.
func (t translation) cluster(r mesh.Rule, target mesh.Target) string {
	if t.edge != nil {
		return gatewayClusterName(gatewayKind(r, target), t.endpoints(target))
	}
	return OutboundName(t.endpoints(target))
}

// endpoints returns the key of a Service port's endpoints in the family of the call, or else in a family of the Service.
func (t translation) endpoints(target mesh.Target) mesh.EndpointsKey {
	family := t.key.Family
	if !slices.Contains(target.Families, family) {
		family = target.Families[0]
	}
	return mesh.EndpointsKey{Service: target.Service, Port: target.Port, Family: family}
}

func (t translation) setClusters(action *routev3.RouteAction, r mesh.Rule) {
	a := r.Action
	if len(a.Backends) == 1 && !ownHeaders(a.Backends) {
		action.ClusterSpecifier = &routev3.RouteAction_Cluster{Cluster: t.cluster(r, a.Backends[0].Target)}
		return
	}
	action.ClusterSpecifier = &routev3.RouteAction_WeightedClusters{WeightedClusters: t.weightedClusters(r)}
	if slices.ContainsFunc(a.Backends, func(b mesh.Backend) bool { return !b.Valid }) && a.InvalidStatus == 500 {
		action.ClusterNotFoundResponseCode = routev3.RouteAction_INTERNAL_SERVER_ERROR // otherwise 503
	}
}

// ownHeaders reports whether some backend has header changes of its own.
func ownHeaders(backends []mesh.Backend) bool {
	return slices.ContainsFunc(backends, func(b mesh.Backend) bool { return b.RequestHeaders != nil })
}

// weightedClusters shares the requests by weight. Envoy changes headers first for the cluster and then for the route, but
// the rule's filters come before the backend's. So each cluster has both.
func (t translation) weightedClusters(r mesh.Rule) *routev3.WeightedCluster {
	a := r.Action
	own := ownHeaders(a.Backends)
	out := &routev3.WeightedCluster{}
	for _, b := range a.Backends {
		c := &routev3.WeightedCluster_ClusterWeight{Name: UnresolvedCluster, Weight: wrapperspb.UInt32(b.Weight)}
		if b.Valid {
			c.Name = t.cluster(r, b.Target)
			c.TypedPerFilterConfig = sessionConfig(b.Session, r.Match)
		}
		if own {
			request, response := a.RequestHeaders, a.ResponseHeaders
			if b.RequestHeaders != nil {
				request, response = *b.RequestHeaders, *b.ResponseHeaders
			}
			c.RequestHeadersToAdd, c.RequestHeadersToRemove = headerOptions(request), removed(request)
			c.ResponseHeadersToAdd, c.ResponseHeadersToRemove = headerOptions(response), response.Remove
		}
		out.Clusters = append(out.Clusters, c)
	}
	return out
}

// headerOptions returns what a change sets and adds. "%" is escaped, because it begins a variable in Envoy.
func headerOptions(change mesh.HeaderChange) []*corev3.HeaderValueOption {
	var out []*corev3.HeaderValueOption
	add := func(headers []mesh.Header, action corev3.HeaderValueOption_HeaderAppendAction) {
		for _, h := range headers {
			out = append(out, &corev3.HeaderValueOption{
				Header:         &corev3.HeaderValue{Key: h.Name, Value: strings.ReplaceAll(h.Value, "%", "%%")},
				AppendAction:   action,
				KeepEmptyValue: h.Value == "",
			})
		}
	}
	add(change.Set, corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD)
	add(change.Add, corev3.HeaderValueOption_APPEND_IF_EXISTS_OR_ADD)
	return out
}
