package translate

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestRefused: a route of which Envoy would refuse what comes out is refused itself, with the reason, and
// the others hold.
func TestRefused(t *testing.T) {
	for name, test := range map[string]struct {
		// bad are names of routes that Envoy refuses, together those it refuses if all are there.
		bad, together []string
		// accepted are the routes that hold, of a, b and c.
		accepted []string
	}{
		"none":     {accepted: []string{"a", "b", "c"}},
		"one":      {bad: []string{"b"}, accepted: []string{"a", "c"}},
		"two":      {bad: []string{"a", "c"}, accepted: []string{"b"}},
		"all":      {bad: []string{"a", "b", "c"}},
		"together": {together: []string{"a", "b"}},
	} {
		t.Run(name, func(t *testing.T) {
			tr := serviceBuilder{cfg: configtest.WithoutIdentity(), check: func(resources []envoy.Resource) error {
				names := routeNames(resources)
				has := func(name string) bool { return slices.Contains(names, name) }
				if slices.ContainsFunc(test.bad, has) {
					return errors.New("bad")
				}
				if len(test.together) > 0 && !slices.ContainsFunc(test.together, func(n string) bool { return !has(n) }) {
					return errors.New("too many")
				}
				return nil
			}}
			key := mesh.Key{Namespace: "shop", Name: "cart"}
			svc := &mesh.Service{Key: key, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}}
			in := mesh.RouteInputs{
				HTTPRoutes: []*gatewayv1.HTTPRoute{routeTo("a"), routeTo("b"), routeTo("c")},
				Services:   map[mesh.Key]*mesh.Service{key: svc},
			}
			out, err := tr.service(key, svc, in)
			if err != nil {
				t.Fatal(err)
			}
			if got := routeNames(out.resources); !slices.Equal(got, test.accepted) {
				t.Errorf("routes %v are sent, want %v", got, test.accepted)
			}
			for _, s := range out.statuses {
				accepted := s.Conditions[0]
				if want := slices.Contains(test.accepted, s.Object.Name); accepted.True != want {
					t.Errorf("%s: Accepted=%t (%s), want %t", s.Object, accepted.True, accepted.Message, want)
				} else if !want && (accepted.Reason != gatewayv1.RouteReasonUnsupportedValue || !strings.Contains(accepted.Message, "Envoy would refuse")) {
					t.Errorf("%s: %s: %s", s.Object, accepted.Reason, accepted.Message)
				}
			}
		})
	}
}

// routeTo is a route with a path of its own.
func routeTo(name string) *gatewayv1.HTTPRoute {
	return &gatewayv1.HTTPRoute{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name},
		Spec: gatewayv1.HTTPRouteSpec{
			CommonRouteSpec: gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
				Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "cart",
			}}},
			Rules: []gatewayv1.HTTPRouteRule{{Matches: []gatewayv1.HTTPRouteMatch{{
				Path: &gatewayv1.HTTPPathMatch{Value: new("/" + name)},
			}}}},
		},
	}
}

// routeNames are the names of the HTTPRoutes that routes come from, sorted and without doubles.
func routeNames(resources []envoy.Resource) []string {
	var out []string
	for _, r := range resources {
		rc, ok := r.Message.(*routev3.RouteConfiguration)
		if !ok {
			continue
		}
		for _, route := range rc.VirtualHosts[0].Routes {
			var name string
			if _, err := fmt.Sscanf(route.Name, "HTTPRoute shop/%s rule", &name); err == nil || name != "" {
				out = append(out, name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// A route that Envoy would refuse costs its own refusal: later changes of others are built as without it.
func TestRefusedOnce(t *testing.T) {
	const many = 50
	tr := New(configtest.WithoutIdentity())
	checks := 0
	tr.check = func(resources []envoy.Resource) error {
		checks++
		if slices.ContainsFunc(resources, func(r envoy.Resource) bool {
			return r.Type == envoy.VirtualHostType && strings.HasSuffix(r.Name, "/bad.example.com")
		}) {
			return errors.New("bad")
		}
		return nil
	}
	class := &gatewayv1.GatewayClass{ObjectMeta: metav1.ObjectMeta{Name: "mizzen"}}
	class.Spec.ControllerName = config.ControllerName
	gw := &gatewayv1.Gateway{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "public"}}
	gw.Spec.GatewayClassName = "mizzen"
	gw.Spec.Listeners = []gatewayv1.Listener{{Name: "http", Port: 80, Protocol: gatewayv1.HTTPProtocolType}}
	route := func(name, path string) *gatewayv1.HTTPRoute {
		r := routeTo(name)
		r.Spec.ParentRefs = []gatewayv1.ParentReference{{Name: "public"}}
		r.Spec.Hostnames = []gatewayv1.Hostname{gatewayv1.Hostname(name + ".example.com")}
		r.Spec.Rules[0].Matches = []gatewayv1.HTTPRouteMatch{{Path: &gatewayv1.HTTPPathMatch{Value: &path}}}
		return r
	}
	tr.Set(class)
	tr.Set(gw)
	tr.Set(route("bad", "/"))
	for i := range many {
		tr.Set(route(fmt.Sprint("good-", i), "/"))
	}
	accepted := func(r *Result) map[string]bool {
		out := map[string]bool{}
		for _, s := range r.Statuses[mesh.ID{Kind: mesh.KindGateway, Key: mesh.Key{Namespace: "shop", Name: "public"}}] {
			if s.Object.Kind == mesh.KindHTTPRoute {
				out[s.Object.Name] = s.Conditions[0].True
			}
		}
		return out
	}
	tr.Build()
	for _, changed := range []string{"good-1", "bad", "good-2"} {
		checks = 0
		tr.Set(route(changed, "/new"))
		if got := accepted(tr.Build()); got["bad"] || !got["good-1"] || len(got) != many+1 {
			t.Errorf("after a change of %s: accepted %v", changed, got)
		}
		if checks > 5 {
			t.Errorf("after a change of %s: %d checks", changed, checks)
		}
	}
}
