package ctl

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestNoFalseAlarmOfShadows: over random routes in files, no request meets a match that check calls never met,
// on whatever port and from wherever it comes, and whichever of the routes turns out to be older; and of two that are
// called the same, one.
func TestNoFalseAlarmOfShadows(t *testing.T) {
	told := 0
	for seed := range uint64(300) {
		g := generator{rand.New(rand.NewPCG(seed, 7))}
		files := g.files(t)
		c := newChecker(files, newWorld(objects{}, config.Default()), newWorld(objects{}.with(files), config.Default()), inhabitants{})
		never, twins := map[string]bool{}, map[string]string{}
		for _, f := range c.check() {
			name := f.Object + " " + f.Field
			if strings.Contains(f.Problem, "no request can match it") {
				never[name] = true
				told++
			} else if rest, ok := strings.CutPrefix(f.Problem, "the same match as "); ok {
				rest, _, _ = strings.Cut(rest, " (")
				field, object, _ := strings.Cut(rest, " of ")
				twins[name] = object + " " + field
			} else if f.Severity == severityError {
				t.Fatalf("seed %d: %+v: the routes ought to be fine", seed, f)
			}
		}
		if len(never)+len(twins) == 0 {
			continue
		}
		for range 3 {
			for _, o := range files { // applied in any order
				o.SetCreationTimestamp(metav1.NewTime(time.Unix(int64(g.IntN(3)), 0)))
			}
			w := newWorld(objects{}.with(files), config.Default())
			for _, group := range g.met(w) {
				met := map[string]bool{}
				for _, rule := range group {
					met[rule.Origin.Route.String()+" "+c.matchField(idOf(rule.Origin))] = true
				}
				for name := range met {
					if never[name] || met[twins[name]] {
						t.Fatalf("seed %d: a request meets %s; the same as %q", seed, name, twins[name])
					}
				}
			}
		}
	}
	if told < 50 { // without this the test would hold for a check that says nothing
		t.Errorf("only %d matches are called never met", told)
	}
}

type generator struct{ *rand.Rand }

var cartKey = mesh.Key{Namespace: "shop", Name: "cart"}

// files are a Service and routes, written and read as a user's.
func (g generator) files(t *testing.T) []*fileObject {
	t.Helper()
	out := []any{&corev1.Service{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Service"},
		ObjectMeta: metav1.ObjectMeta{Namespace: cartKey.Namespace, Name: cartKey.Name},
		Spec:       corev1.ServiceSpec{Ports: []corev1.ServicePort{{Name: "http-a", Port: 80}, {Name: "http-b", Port: 81}}},
	}}
	for i := range 1 + g.IntN(4) {
		ref := gatewayv1.ParentReference{
			Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
			Name: gatewayv1.ObjectName(cartKey.Name), Namespace: new(gatewayv1.Namespace(cartKey.Namespace)),
		}
		if g.IntN(3) == 0 {
			ref.Port = new(gatewayv1.PortNumber(80 + g.IntN(2)))
		}
		r := &gatewayv1.HTTPRoute{TypeMeta: metav1.TypeMeta{APIVersion: gatewayv1.GroupVersion.String(), Kind: "HTTPRoute"}, ObjectMeta: metav1.ObjectMeta{Namespace: g.pick("shop", "shop", "web"), Name: fmt.Sprintf("r%d", i)}}
		r.Spec.ParentRefs = []gatewayv1.ParentReference{ref}
		for range 1 + g.IntN(3) {
			backend := gatewayv1.HTTPBackendRef{}
			backend.Name, backend.Namespace, backend.Port = "cart", ref.Namespace, new(gatewayv1.PortNumber(80))
			rule := gatewayv1.HTTPRouteRule{BackendRefs: []gatewayv1.HTTPBackendRef{backend}}
			for range 1 + g.IntN(2) {
				rule.Matches = append(rule.Matches, g.match())
			}
			r.Spec.Rules = append(r.Spec.Rules, rule)
		}
		out = append(out, r)
	}
	var sources []source
	for _, o := range out {
		content, err := yaml.Marshal(o)
		if err != nil {
			t.Fatal(err)
		}
		sources = append(sources, source{fmt.Sprintf("%T.yaml", o), content})
	}
	r := readObjects(sources, "default")
	if len(r.findings) > 0 {
		t.Fatal(r.findings)
	}
	return r.objects
}

func (g generator) pick(from ...string) string { return from[g.IntN(len(from))] }

func (g generator) match() gatewayv1.HTTPRouteMatch {
	var m gatewayv1.HTTPRouteMatch
	kind, value := gatewayv1.PathMatchPathPrefix, g.pick("/", "/", "/a", "/a/b")
	switch g.IntN(4) {
	case 0:
		kind = gatewayv1.PathMatchExact
	case 1:
		kind, value = gatewayv1.PathMatchRegularExpression, g.pick("/.*", "/a.*", "/a/.*", ".*", "/[ab]")
	}
	m.Path = &gatewayv1.HTTPPathMatch{Type: &kind, Value: &value}
	if g.IntN(4) == 0 {
		m.Method = new(gatewayv1.HTTPMethod(g.pick("GET", "POST")))
	}
	for range g.IntN(3) {
		h := gatewayv1.HTTPHeaderMatch{Name: gatewayv1.HTTPHeaderName(g.pick("x", "y")), Value: g.pick("1", "2")}
		if g.IntN(3) == 0 {
			h.Type, h.Value = new(gatewayv1.HeaderMatchRegularExpression), g.pick("1|2", ".*", "1.*")
		}
		m.Headers = append(m.Headers, h)
	}
	return m
}

// met are the rules of each group that any request out of a small universe meets.
func (g generator) met(w *world) [][]*mesh.Rule {
	var out [][]*mesh.Rule
	rules := w.Rules(cartKey)
	for _, port := range rules {
		for _, client := range []string{"shop", "web"} {
			group := port.For(client)
			var met []*mesh.Rule
			for _, path := range []string{"/", "/a", "/a/", "/a/b", "/ab", ""} {
				for _, method := range []string{"GET", "CONNECT"} {
					for _, x := range []string{"", "1", "2"} {
						for _, y := range []string{"", "1", "2"} {
							r := mesh.Request{Method: method, Path: path, Headers: map[string][]string{}}
							if x != "" {
								r.Headers["x"] = []string{x}
							}
							if y != "" {
								r.Headers["y"] = []string{y}
							}
							if rule := mesh.Route(group, r); rule != nil {
								met = append(met, rule)
							}
						}
					}
				}
			}
			out = append(out, met)
		}
	}
	return out
}
