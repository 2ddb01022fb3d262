package envoy

import (
	"cmp"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// BuiltHosts are virtual hosts that have been built, each with what it was built from.
type BuiltHosts map[ID]*builtHost

type builtHost struct {
	rules       []builtRule
	misdirected bool
}

// builtRule identifies a rule. Every build of a route makes new actions.
type builtRule struct {
	action *mesh.Action
	origin mesh.Origin
}

func builtFrom(h mesh.ServedHost) *builtHost {
	out := &builtHost{misdirected: h.Misdirected, rules: make([]builtRule, len(h.Rules))}
	for i, r := range h.Rules {
		out.rules[i] = builtRule{r.Action, r.Origin}
	}
	return out
}

// same reports whether two virtual hosts of a name are built from the same.
func (b *builtHost) same(other *builtHost) bool {
	return other != nil && b.misdirected == other.misdirected && slices.Equal(b.rules, other.rules)
}

// domain returns Envoy's word for a host name.
func domain(name string) string { return cmp.Or(name, "*") }

// edgeRoutes returns a route configuration that gets its virtual hosts one by one, so that a change of a route is as small as the
// virtual hosts that it is in. Envoy takes the most specific one. A host without a virtual host is answered with 404, like a request
// without a rule.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/vhds
func (t translation) edgeRoutes(name string) Resource {
	return Resource{Type: RouteType, Name: name, Lazy: true, Message: &routev3.RouteConfiguration{
		Name: name, IgnorePortInHostMatching: true,
		RequestHeadersToRemove: []string{refererHeader},
		TypedPerFilterConfig:   t.edge.filters.disabled(),
		Vhds:                   &routev3.Vhds{ConfigSource: ads()},
	}}
}

// virtualHostName returns the name of a virtual host of a route configuration.
func virtualHostName(routes string, h mesh.ServedHost) string { return routes + "/" + domain(h.Name) }

// virtualHost returns a virtual host of a route configuration.
func (t translation) virtualHost(routes string, h mesh.ServedHost) Resource {
	name := virtualHostName(routes, h) // Envoy removes a virtual host that has the name of the resource
	v := &routev3.VirtualHost{Name: name, Domains: []string{domain(h.Name)}}
	if h.Misdirected {
		v.Routes = []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: ""}},
			Action: answer(421, ""),
		}}
	} else {
		v.RetryPolicy = hostRetryPolicy(t.cfg)
		v.RequestBodyBufferLimit = wrapperspb.UInt64(edgeRepeatable)
		v.RequestHeadersToAdd = refererAgain
		for _, r := range h.Rules {
			v.Routes = append(v.Routes, t.routes(r)...)
		}
	}
	return Resource{Type: VirtualHostType, Name: name, Message: v}
}
