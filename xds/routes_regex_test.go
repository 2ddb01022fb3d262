package xds_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
)

// hostile are expressions on which Go's syntax and Envoy's RE2 could differ, or that are large.
var hostile = []string{
	"(", ")", "a**", "a*+", "[b-a]", "[[:nope:]]", `\`, `\C`, `\8`, `\Z`, `\z`, `\A/a`, `\Q/a(\E`, `(?P<a>x)(?P<a>y)`, `(?<a>x)`, `(?P<é>x)`,
	"(?i)ſK/", "(?U)a*", "(?s).*", "(?m)^a$", "(?x)a", "(?=a)", `(a)\1`, "a{1000}", "a{1001}", "a{,5}", "a{5,2}", "(a{100}){11}", "((a{30}){30}){30}",
	"(.{100}){10}", ".{1000}", "(.{50})*", "[^a]{1000}", `[\x{10000}-\x{10FFFF}]{300}`, `[^/]{256}`, `(?i)[a-zé-ž]{200}`, `[[:alpha:]]{1000}`,
	`\pL`, `\p{Greek}`, `\p{Letter}`, `\p{Kawi}`, `\p{Any}`, `\PN*`, `[\pL]`, `\\pL`, "[☺-☻]+", "é*", "\x01", `\x00`, `\07`, `\x{110000}`,
	strings.Repeat("(", 999) + strings.Repeat(")", 999), strings.Repeat("(", 1100) + strings.Repeat(")", 1100),
	strings.Repeat("a|", 500) + "a", strings.Repeat("(a?", 300) + strings.Repeat(")", 300), strings.Repeat("[^x]?", 200), strings.Repeat(".*", 150),
	strings.Repeat("(?i:ſ)", 300), strings.Repeat("[α-ωа-я]", 90),
	strings.Repeat("x", 1024), strings.Repeat("☺", 340), "(?i)" + strings.Repeat("k", 1000), "((((((((((a{10}){10}){10}))))))))", "", "|", "()", "(|a)*", "(?:)", "^$", "$^",
	"/a{0}", "(a{0}){1000}", "((a*)*)*", "(a+)+$", "(?i)(?-i)a", "(?", "(?P<", "(?P<a", "[", "[]", "[]a]", "[^]", "[a-", "a{99999999999}",
}

// TestEnvoyTakesWhatWeTake: one expression that Envoy refuses would cost all routes of a Service port, so
// none may be accepted that it refuses.
func TestEnvoyTakesWhatWeTake(t *testing.T) {
	texts := append([]string{}, hostile...)
	words := []string{"a", "/", ".", "*", "+", "?", "(", ")", "[", "]", "{2,5}", "{30}", "|", "^", "$", `\d`, `\W`, "(?i)", "(?:", "é", "[^b]", "-", `\`, "[a-z]", "{1,}", "[[:space:]]", "(?P<n>", `\b`, "☺"}
	random := rand.New(rand.NewPCG(7, 7))
	for range 3000 {
		text := ""
		for range 1 + random.IntN(12) {
			text += words[random.IntN(len(words))]
		}
		texts = append(texts, text)
	}
	all, accepted := &routev3.RouteConfiguration{Name: "all"}, 0
	for i, text := range texts {
		rules := accept(text)
		if rules == nil {
			continue
		}
		accepted++
		host := virtualHost(t, rules)
		host.Name, host.Domains = fmt.Sprintf("%d %q", i, text), []string{fmt.Sprintf("set-%d", i)}
		all.VirtualHosts = append(all.VirtualHosts, host)
	}
	if accepted < len(texts)/10 {
		t.Fatalf("%d of %d accepted: too few to say anything", accepted, len(texts))
	}
	validate(t, []envoy.Resource{{Type: envoy.RouteType, Name: "all", Message: all}})
}

// accept gives the rules of a route with an expression in its path and headers, nil if it is refused.
func accept(text string) []mesh.Rule {
	o := &gatewayv1.HTTPRoute{}
	o.Namespace, o.Name = parent.Namespace, "regex"
	o.Spec.ParentRefs = []gatewayv1.ParentReference{{Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "cart"}}
	o.Spec.Rules = []gatewayv1.HTTPRouteRule{{Matches: []gatewayv1.HTTPRouteMatch{{
		Path:    &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchRegularExpression), Value: &text},
		Headers: []gatewayv1.HTTPHeaderMatch{{Type: new(gatewayv1.HeaderMatchRegularExpression), Name: "x", Value: text}},
	}}}}
	rules, _ := mesh.BuildRoutes(parent, mesh.RouteInputs{
		HTTPRoutes: []*gatewayv1.HTTPRoute{o}, Services: map[mesh.Key]*mesh.Service{parent: service("cart")},
	})
	return rules[80].Producer
}
