package envoy

import (
	"cmp"
	"regexp"
	"strconv"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statefulv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	cookiev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/cookie/v3"
	headerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/stateful_session/header/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/type/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// sessionFilterName is the key of a route's session in its filter configurations.
const sessionFilterName = "envoy.filters.http.stateful_session"

// sessionFilter applies the session of a route, if it has one. It is not "disabled", because a request whose routes are
// fetched on demand would then not get it. Routes without a session take it out (onlyWhereNeeded).
func sessionFilter() *hcmv3.HttpFilter {
	return httpFilter(sessionFilterName, &statefulv3.StatefulSession{})
}

// sessionConfig returns the typed_per_filter_config of a route or of one of its clusters. If the session's endpoint is gone
// or ejected, the request and its session move to another one.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/stateful_session_filter
func sessionConfig(s *mesh.Session, m mesh.Match) map[string]*anypb.Any {
	if s == nil {
		return nil
	}
	state := &corev3.TypedExtensionConfig{Name: "envoy.http.stateful_session.cookie"}
	if s.Header {
		state.Name = "envoy.http.stateful_session.header"
		state.TypedConfig = toAny(&headerv3.HeaderBasedSessionState{Name: s.Name})
	} else {
		state.TypedConfig = toAny(&cookiev3.CookieBasedSessionState{Cookie: sessionCookie(s, m)})
	}
	return map[string]*anypb.Any{sessionFilterName: toAny(&statefulv3.StatefulSessionPerRoute{
		Override: &statefulv3.StatefulSessionPerRoute_StatefulSession{StatefulSession: &statefulv3.StatefulSession{SessionState: state}},
	})}
}

// sessionCookie has its lifetime as an attribute. Envoy's own "ttl" would also write the end of the session into the value,
// measured by the node's uptime, and a sidecar on another node would read it by its own node's uptime.
func sessionCookie(s *mesh.Session, m mesh.Match) *httpv3.Cookie {
	c := &httpv3.Cookie{Name: s.Name}
	if s.ByRule {
		c.Path = cookiePath(m.Path)
	}
	if s.MaxAge > 0 {
		c.Attributes = []*httpv3.CookieAttribute{{Name: "Max-Age", Value: strconv.FormatInt(int64(s.MaxAge/time.Second), 10)}}
	}
	return c
}

// cookiePath returns the cookie's path: "the Path should be interpreted based on the route path that was matched". For a
// regular expression it is "the longest non-regex prefix".
// https://gateway-api.sigs.k8s.io/geps/gep-1619/#path
func cookiePath(t mesh.TextMatch) string {
	path, whole := t.Value, true
	if t.Type == mesh.Regex {
		if re, err := regexp.Compile(strings.TrimPrefix(path, "^")); err == nil { // checkRegex has validated it
			path, whole = re.LiteralPrefix()
		}
	}
	if i := strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r == ';' || r > '~' }); i >= 0 { // it would end the attribute
		path, whole = path[:i], false
	}
	if !whole {
		path = path[:strings.LastIndexByte(path, '/')+1]
	}
	if path != "/" {
		path = strings.TrimSuffix(path, "/")
	}
	return cmp.Or(path, "/")
}

// pinnedMatch adds the condition that a request belongs to a session.
func pinnedMatch(m *routev3.RouteMatch, s *mesh.Session) {
	m.Cookies = append(m.Cookies, &routev3.CookieMatcher{
		Name:        s.Name,
		StringMatch: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_SafeRegex{SafeRegex: regex(".+")}},
	})
}
