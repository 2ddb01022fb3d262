package envoy

import (
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// routeMatches returns Envoy's matches for one rule. A rule that matches every path has two matches, because CONNECT has no
// path and Envoy's other matchers never match it.
func routeMatches(m mesh.Match) []*routev3.RouteMatch {
	var out []*routev3.RouteMatch
	every := m.Path.Type == mesh.Prefix && m.Path.Value == "/"
	if every && len(m.Query) == 0 && (m.Method == "" || m.Method == "CONNECT") {
		connect := conditions(m)
		connect.PathSpecifier = &routev3.RouteMatch_ConnectMatcher_{ConnectMatcher: &routev3.RouteMatch_ConnectMatcher{}}
		out = append(out, connect)
	}
	match := conditions(m)
	switch {
	case every: // the empty prefix also matches "OPTIONS *" and absolute-form targets
		match.PathSpecifier = &routev3.RouteMatch_Prefix{Prefix: ""}
	case m.Path.Type == mesh.Prefix:
		match.PathSpecifier = &routev3.RouteMatch_PathSeparatedPrefix{PathSeparatedPrefix: m.Path.Value}
	case m.Path.Type == mesh.Exact:
		match.PathSpecifier = &routev3.RouteMatch_Path{Path: m.Path.Value}
	default:
		match.PathSpecifier = &routev3.RouteMatch_SafeRegex{SafeRegex: regex(m.Path.Value)}
	}
	return append(out, match)
}

// conditions returns a match with all conditions but the path.
func conditions(m mesh.Match) *routev3.RouteMatch {
	out := &routev3.RouteMatch{}
	if m.Method != "" {
		out.Headers = append(out.Headers, header(":method", mesh.TextMatch{Type: mesh.Exact, Value: m.Method}))
	}
	for _, h := range m.Headers {
		out.Headers = append(out.Headers, header(h.Name, h.TextMatch))
	}
	for _, q := range m.Query {
		out.QueryParameters = append(out.QueryParameters, &routev3.QueryParameterMatcher{
			Name: q.Name,
			QueryParameterMatchSpecifier: &routev3.QueryParameterMatcher_StringMatch{
				StringMatch: stringMatch(q.TextMatch),
			},
		})
	}
	return out
}

func header(name string, t mesh.TextMatch) *routev3.HeaderMatcher {
	return &routev3.HeaderMatcher{
		Name:                 name,
		HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: stringMatch(t)},
	}
}

func stringMatch(t mesh.TextMatch) *matcherv3.StringMatcher {
	if t.Type == mesh.Regex {
		return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(t.Value)}}
	}
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: t.Value}}
}

func regex(text string) *matcherv3.RegexMatcher { return &matcherv3.RegexMatcher{Regex: text} }
