package xds_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestEveryAcceptedRouteIsValid: whatever stands in a route, Envoy takes what comes out. Values are drawn
// from right ones and from those that the API server, or a CRD of another version, should have refused.
func TestEveryAcceptedRouteIsValid(t *testing.T) {
	cart := service("cart")
	services := map[mesh.Key]*mesh.Service{parent: cart, {Namespace: "shop", Name: "v2"}: service("v2")}
	var resources []envoy.Resource
	for _, svc := range services {
		for _, r := range envoy.ServiceResources(svc, nil, configtest.WithoutIdentity()) {
			if r.Type == envoy.ClusterType {
				if r.Name != "10.0.0.1:80" || svc == cart { // one address for all
					resources = append(resources, r)
				}
			}
		}
	}
	all, accepted := &routev3.RouteConfiguration{Name: "all"}, 0
	mirrors := map[string]envoy.Resource{}
	for seed := range uint64(1500) {
		set := randomRoutes(3*seed + 1) // HTTPRoutes
		for _, o := range set.http {
			for i := range o.Spec.Rules {
				set.act(&o.Spec.Rules[i])
			}
		}
		rules, _ := mesh.BuildRoutes(parent, mesh.RouteInputs{HTTPRoutes: set.http, Services: services})
		producer := rules[80].Producer
		if producer == nil {
			continue
		}
		accepted++
		host := virtualHost(t, producer)
		host.Name, host.Domains = fmt.Sprintf("set %d", seed), []string{fmt.Sprintf("set-%d", seed)}
		all.VirtualHosts = append(all.VirtualHosts, host)
		for _, r := range mirrorClusters(map[uint16]mesh.PortRules{80: {Producer: producer}}) {
			mirrors[r.Name] = r
		}
	}
	resources = slices.AppendSeq(resources, maps.Values(mirrors))
	t.Logf("%d of 1500 sets have accepted rules", accepted)
	validate(t, append(resources, envoy.Resource{Type: envoy.RouteType, Name: "all", Message: all}))
}

// mirrorClusters are those for copies of requests to Service cart.
func mirrorClusters(rules map[uint16]mesh.PortRules) []envoy.Resource {
	return slices.DeleteFunc(envoy.ServiceResources(service(parent.Name), rules, configtest.WithoutIdentity()), func(r envoy.Resource) bool {
		return r.Type != envoy.ClusterType || !strings.HasPrefix(r.Name, "mirror/")
	})
}

// act gives a rule filters, backends, timeouts, retries and sessions.
func (s *routeSet) act(rule *gatewayv1.HTTPRouteRule) {
	for range s.IntN(3) {
		rule.Filters = append(rule.Filters, s.filter())
	}
	for range s.IntN(4) {
		b := gatewayv1.HTTPBackendRef{BackendRef: s.backend()}
		b.Weight = pick(s, nil, new(int32(0)), new(int32(5)), new(int32(1_000_000)), new(int32(-1)))
		if s.IntN(4) == 0 {
			b.Filters = append(b.Filters, s.filter())
		}
		rule.BackendRefs = append(rule.BackendRefs, b)
	}
	duration := func() *gatewayv1.Duration {
		return pick(s, nil, nil, new(gatewayv1.Duration("0s")), new(gatewayv1.Duration("1ms")), new(gatewayv1.Duration("10s")),
			new(gatewayv1.Duration("99999h99999h99999h99999h")), new(gatewayv1.Duration("-1s")))
	}
	if s.IntN(3) == 0 {
		rule.SessionPersistence = s.session()
	}
	if s.IntN(3) == 0 {
		rule.Timeouts = &gatewayv1.HTTPRouteTimeouts{Request: duration(), BackendRequest: duration()}
	}
	if s.IntN(3) == 0 {
		rule.Retry = &gatewayv1.HTTPRouteRetry{Attempts: pick(s, nil, new(1), new(1000), new(-1)), Backoff: duration()}
		for range s.IntN(3) {
			rule.Retry.Codes = append(rule.Retry.Codes, pick[gatewayv1.HTTPRouteRetryStatusCode](s, 500, 503, 503, 429, 200))
		}
	}
}

func (s *routeSet) session() *gatewayv1.SessionPersistence {
	return &gatewayv1.SessionPersistence{
		SessionName:     pick(s, nil, new("s"), new("S"), new("content-length"), new("host"), new("a b"), new(""), new("é"), new(`"`)),
		Type:            pick(s, nil, nil, new(gatewayv1.CookieBasedSessionPersistence), new(gatewayv1.HeaderBasedSessionPersistence), new(gatewayv1.SessionPersistenceType("x"))),
		AbsoluteTimeout: pick(s, nil, nil, new(gatewayv1.Duration("1h")), new(gatewayv1.Duration("0s")), new(gatewayv1.Duration("1500ms")), new(gatewayv1.Duration("99999h99999h99999h99999h"))),
		CookieConfig: pick(s, nil, nil, &gatewayv1.CookieConfig{}, &gatewayv1.CookieConfig{LifetimeType: new(gatewayv1.PermanentCookieLifetimeType)},
			&gatewayv1.CookieConfig{LifetimeType: new(gatewayv1.CookieLifetimeType("x"))}),
	}
}

func (s *routeSet) backend() gatewayv1.BackendRef {
	var b gatewayv1.BackendRef
	b.Name, b.Port = pick[gatewayv1.ObjectName](s, "cart", "cart", "v2", "gone"), new(gatewayv1.PortNumber(80))
	return b
}

func (s *routeSet) headers() *gatewayv1.HTTPHeaderFilter {
	name := func() gatewayv1.HTTPHeaderName {
		return pick[gatewayv1.HTTPHeaderName](s, "x-a", "x-a", "X-A", "x-b", "x-b", "te", "Content-Length", "Connection", "x-mizzen-destination", "Host", ":path", "x y", "", "é")
	}
	list := func() (out []gatewayv1.HTTPHeader) {
		for range s.IntN(3) {
			value := pick(s, "1", "1", "", "%", "%REQ(x)%", "é", "a\tb", "\x7f", "a\nb", " x ", `"`)
			out = append(out, gatewayv1.HTTPHeader{Name: name(), Value: value})
		}
		return out
	}
	f := &gatewayv1.HTTPHeaderFilter{Set: list(), Add: list()}
	for range s.IntN(2) {
		f.Remove = append(f.Remove, string(name()))
	}
	return f
}

func (s *routeSet) pathModifier() *gatewayv1.HTTPPathModifier {
	value := new(pick(s, "/", "/new", "/new/", "", "new", "/a?b", "/a#b", "/a%zz", `/a\1`, "/a\nb", "/%41"))
	return pick(s, nil,
		&gatewayv1.HTTPPathModifier{Type: gatewayv1.FullPathHTTPPathModifier, ReplaceFullPath: value},
		&gatewayv1.HTTPPathModifier{Type: gatewayv1.PrefixMatchHTTPPathModifier, ReplacePrefixMatch: value},
		&gatewayv1.HTTPPathModifier{Type: "Regex"})
}

func (s *routeSet) filter() gatewayv1.HTTPRouteFilter {
	host := pick(s, nil, new(gatewayv1.PreciseHostname("example.com")), new(gatewayv1.PreciseHostname("EX.com")), new(gatewayv1.PreciseHostname("a\nb")), new(gatewayv1.PreciseHostname("")))
	switch s.IntN(8) {
	case 0, 1:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: s.headers()}
	case 2:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterResponseHeaderModifier, ResponseHeaderModifier: s.headers()}
	case 3:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterURLRewrite, URLRewrite: &gatewayv1.HTTPURLRewriteFilter{Hostname: host, Path: s.pathModifier()}}
	case 4:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterRequestRedirect, RequestRedirect: &gatewayv1.HTTPRequestRedirectFilter{
			Hostname: host, Path: s.pathModifier(), Scheme: pick(s, nil, new("http"), new("https"), new("ftp")),
			Port:       pick(s, nil, new(gatewayv1.PortNumber(80)), new(gatewayv1.PortNumber(65535)), new(gatewayv1.PortNumber(-1))),
			StatusCode: pick(s, nil, new(301), new(307), new(200)),
		}}
	case 5:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterRequestMirror, RequestMirror: &gatewayv1.HTTPRequestMirrorFilter{
			BackendRef: s.backend().BackendObjectReference, Percent: pick(s, nil, new(int32(0)), new(int32(100)), new(int32(-1))),
			Fraction: pick(s, nil, &gatewayv1.Fraction{Numerator: 1, Denominator: new(int32(7))}, &gatewayv1.Fraction{Numerator: 1, Denominator: new(int32(0))}),
		}}
	case 6:
		return gatewayv1.HTTPRouteFilter{Type: pick[gatewayv1.HTTPRouteFilterType](s, "ExtensionRef", "ExternalAuth", "CORS", "URLRewrite", "RequestRedirect", "RequestMirror")}
	default:
		return gatewayv1.HTTPRouteFilter{Type: gatewayv1.HTTPRouteFilterRequestHeaderModifier, RequestHeaderModifier: &gatewayv1.HTTPHeaderFilter{}}
	}
}
