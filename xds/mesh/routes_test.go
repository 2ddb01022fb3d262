package mesh

import (
	"fmt"
	"net/netip"
	"reflect"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"
)

var (
	cart     = Key{"shop", "cart"}
	services = map[Key]*Service{
		cart: {
			Key: cart, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")},
			Ports: []Port{{Number: 80, Name: "http", Protocol: HTTP}, {Number: 81, Name: "grpc", Protocol: Detect}, {Number: 82, Name: "tcp", Protocol: TCP}},
		},
	}
)

// routes are written "<kind> <namespace>/<name> <parentRefs>"; each parentRef is Service cart.
func routes(t *testing.T, texts ...string) RouteInputs {
	t.Helper()
	in := RouteInputs{Services: services}
	for _, text := range texts {
		kind, rest, _ := strings.Cut(text, " ")
		name, parents, _ := strings.Cut(rest, " ")
		namespace, name, _ := strings.Cut(name, "/")
		object := fmt.Sprintf("{metadata: {namespace: %s, name: %s}, spec: {rules: [{backendRefs: [{name: cart, namespace: shop, port: 80}]}], parentRefs: [%s]}}",
			namespace, name, strings.ReplaceAll(parents, "{", `{group: "", kind: Service, name: cart, namespace: shop, `))
		if kind == "GRPCRoute" {
			in.GRPCRoutes = append(in.GRPCRoutes, read[gatewayv1.GRPCRoute](t, object))
		} else {
			in.HTTPRoutes = append(in.HTTPRoutes, read[gatewayv1.HTTPRoute](t, object))
		}
	}
	return in
}

func read[T any](t *testing.T, text string) *T {
	t.Helper()
	var o T
	if err := yaml.UnmarshalStrict([]byte(text), &o); err != nil {
		t.Fatal(err)
	}
	return &o
}

// Which routes hold where, and what Accepted says.
func TestGroups(t *testing.T) {
	for name, c := range map[string]struct {
		routes []string
		// want are the rules for a port and a client's namespace.
		want     map[string]string
		accepted map[string]gatewayv1.RouteConditionReason
	}{
		"all ports but opaque ones": {
			routes: []string{"HTTPRoute shop/a {}"},
			want:   map[string]string{"80 shop": "HTTPRoute shop/a", "81 other": "HTTPRoute shop/a", "82 shop": "implicit"},
		},
		"one port": {
			routes: []string{"HTTPRoute shop/a {port: 80}"},
			want:   map[string]string{"80 shop": "HTTPRoute shop/a", "81 shop": "implicit"},
		},
		"port by name": {
			routes: []string{"HTTPRoute shop/a {sectionName: grpc}", "HTTPRoute shop/b {sectionName: grpc, port: 80}"},
			want:   map[string]string{"80 shop": "implicit", "81 shop": "HTTPRoute shop/a"},
			accepted: map[string]gatewayv1.RouteConditionReason{
				"HTTPRoute shop/a": gatewayv1.RouteReasonAccepted, "HTTPRoute shop/b": gatewayv1.RouteReasonNoMatchingParent,
			},
		},
		"one port, named twice": {
			routes: []string{"HTTPRoute shop/a {port: 80}, {}"},
			want:   map[string]string{"80 shop": "HTTPRoute shop/a", "81 shop": "HTTPRoute shop/a"},
		},
		"consumer routes stand in for producer routes, in their namespace and on their ports": {
			routes: []string{"HTTPRoute shop/a {}", "HTTPRoute client/b {port: 80}"},
			want: map[string]string{
				"80 client": "HTTPRoute client/b", "81 client": "HTTPRoute shop/a", "80 shop": "HTTPRoute shop/a", "80 other": "HTTPRoute shop/a",
			},
		},
		"consumer routes alone": {
			routes: []string{"HTTPRoute client/b {}"},
			want:   map[string]string{"80 client": "HTTPRoute client/b", "80 shop": "implicit"},
		},
		"GRPCRoute wins, on its port": {
			routes: []string{"HTTPRoute shop/a {}", "HTTPRoute shop/b {port: 81}", "GRPCRoute shop/c {port: 81}"},
			want:   map[string]string{"80 shop": "HTTPRoute shop/a", "81 shop": "GRPCRoute shop/c"},
			accepted: map[string]gatewayv1.RouteConditionReason{
				"HTTPRoute shop/a": gatewayv1.RouteReasonAccepted, "HTTPRoute shop/b": RouteReasonConflicted, "GRPCRoute shop/c": gatewayv1.RouteReasonAccepted,
			},
		},
		"a consumer's GRPCRoute has no say for others": {
			routes: []string{"HTTPRoute shop/a {}", "GRPCRoute client/c {}"},
			want:   map[string]string{"80 shop": "HTTPRoute shop/a", "80 client": "GRPCRoute client/c"},
			accepted: map[string]gatewayv1.RouteConditionReason{
				"HTTPRoute shop/a": gatewayv1.RouteReasonAccepted, "GRPCRoute client/c": gatewayv1.RouteReasonAccepted,
			},
		},
		"opaque port": {
			routes:   []string{"HTTPRoute shop/a {port: 82}"},
			accepted: map[string]gatewayv1.RouteConditionReason{"HTTPRoute shop/a": gatewayv1.RouteReasonNoMatchingParent},
		},
	} {
		t.Run(name, func(t *testing.T) {
			rules, statuses := BuildRoutes(cart, routes(t, c.routes...))
			for where, want := range c.want {
				var port uint16
				var namespace string
				if _, err := fmt.Sscan(where, &port, &namespace); err != nil {
					t.Fatal(err)
				}
				got := "implicit"
				for i, r := range rules[port].For(namespace) {
					if got = r.Origin.Route.String(); i > 0 {
						t.Errorf("%s: more than one rule", where)
					}
				}
				if got != want {
					t.Errorf("%s: got %s, want %s", where, got, want)
				}
			}
			for _, s := range statuses {
				if want, ok := c.accepted[s.Object.String()]; ok && s.Conditions[0].Reason != want {
					t.Errorf("%s: %+v, want %s", s.Object, s.Conditions[0], want)
				}
			}
		})
	}
}

func TestRefs(t *testing.T) {
	got := HTTPRouteRefs(routes(t, "HTTPRoute client/a {}, {port: 80}").HTTPRoutes[0])
	if want := (RouteRefs{Parents: []Key{cart}, Backends: []Key{cart}}); !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v", got)
	}
}

// Gateways send datagrams, and to Services without a cluster IP. Sidecars do neither, so such routes take nothing from others.
func TestParentsThatOnlyGatewaysKnow(t *testing.T) {
	headless := Key{"shop", "headless"}
	in := routes(t, "HTTPRoute shop/web {port: 80}")
	in.Services = map[Key]*Service{cart: services[cart], headless: {Key: headless, Headless: []Family{IPv4}, Ports: []Port{{Number: 80, Name: "http", Protocol: HTTP}}}}
	in.UDPRoutes = []*gatewayv1.UDPRoute{read[gatewayv1.UDPRoute](t,
		`{metadata: {namespace: shop, name: udp}, spec: {rules: [{backendRefs: [{name: cart, port: 80}]}], parentRefs: [{group: "", kind: Service, name: cart}]}}`)}
	rules, statuses := BuildRoutes(cart, in)
	if got := rules[80].Producer; len(rules) != 1 || len(got) != 1 || got[0].Origin.Route.Name != "web" {
		t.Errorf("rules %+v, want those of the HTTPRoute", rules)
	}
	if !statuses[0].Conditions[0].True || statuses[1].Conditions[0].Reason != gatewayv1.RouteReasonNoMatchingParent {
		t.Errorf("statuses %+v", statuses)
	}
	in.HTTPRoutes[0].Spec.ParentRefs[0].Name = "headless"
	rules, statuses = BuildRoutes(headless, in)
	if len(rules) != 0 || statuses[0].Conditions[0].Reason != gatewayv1.RouteReasonNoMatchingParent {
		t.Errorf("headless: rules %+v, statuses %+v", rules, statuses)
	}
}

func TestHeaderChangeThen(t *testing.T) {
	set := func(name, value string) HeaderChange { return HeaderChange{Set: []Header{{name, value}}} }
	add := func(name, value string) HeaderChange { return HeaderChange{Add: []Header{{name, value}}} }
	remove := func(name string) HeaderChange { return HeaderChange{Remove: []string{name}} }
	for name, c := range map[string]struct{ first, then, want HeaderChange }{
		"set, set":    {set("a", "1"), set("a", "2"), set("a", "2")},
		"set, remove": {set("a", "1"), remove("a"), remove("a")},
		"add, remove": {add("a", "1"), remove("a"), remove("a")},
		"remove, set": {remove("a"), set("a", "1"), set("a", "1")},
		"remove, add": {remove("a"), add("a", "1"), set("a", "1")},
		"set, add":    {set("a", "1"), add("a", "2"), HeaderChange{Set: []Header{{"a", "1"}}, Add: []Header{{"a", "2"}}}},
		"add, set":    {add("a", "1"), set("a", "2"), set("a", "2")},
		"others":      {set("a", "1"), remove("b"), HeaderChange{Set: []Header{{"a", "1"}}, Remove: []string{"b"}}},
	} {
		got := c.first.then(c.then)
		if fmt.Sprint(got) != fmt.Sprint(c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
