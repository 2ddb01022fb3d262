package xds_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"regexp"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestRouteFollowsTheSpecification: over random route sets, the rule that mesh.Route finds is the one
// that the specification's text gives.
func TestRouteFollowsTheSpecification(t *testing.T) {
	for seed := range uint64(400) {
		set := randomRoutes(seed)
		rules := set.rules(t)
		for i := range 60 {
			request := set.request()
			got := "none"
			if r := mesh.Route(rules, request); r != nil {
				got = r.Origin.String()
			}
			if want := set.oracle(request); got != want {
				t.Fatalf("seed %d, request %d %+v:\n got %s\nwant %s", seed, i, request, got, want)
			}
		}
	}
}

// routeSet is a set of routes of one kind on one Service.
type routeSet struct {
	*rand.Rand
	http []*gatewayv1.HTTPRoute
	grpc []*gatewayv1.GRPCRoute
}

var parent = mesh.Key{Namespace: "shop", Name: "cart"}

// randomRoutes draws from few words, so that rules overlap and tie.
func randomRoutes(seed uint64) *routeSet {
	s := &routeSet{Rand: rand.New(rand.NewPCG(seed, 1))}
	for range 1 + s.IntN(4) {
		meta := metav1.ObjectMeta{
			Namespace: parent.Namespace, Name: fmt.Sprintf("route-%d", s.IntN(100)),
			CreationTimestamp: metav1.NewTime(time.Unix(int64(s.IntN(3)), 0)),
		}
		common := gatewayv1.CommonRouteSpec{ParentRefs: []gatewayv1.ParentReference{{
			Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")), Name: "cart",
		}}}
		if seed%3 == 0 {
			o := &gatewayv1.GRPCRoute{ObjectMeta: meta, Spec: gatewayv1.GRPCRouteSpec{CommonRouteSpec: common}}
			for range 1 + s.IntN(3) {
				var rule gatewayv1.GRPCRouteRule
				for range s.IntN(3) {
					rule.Matches = append(rule.Matches, s.grpcMatch())
				}
				o.Spec.Rules = append(o.Spec.Rules, rule)
			}
			if !s.has(meta.Name) {
				s.grpc = append(s.grpc, o)
			}
			continue
		}
		o := &gatewayv1.HTTPRoute{ObjectMeta: meta, Spec: gatewayv1.HTTPRouteSpec{CommonRouteSpec: common}}
		for range 1 + s.IntN(3) {
			var rule gatewayv1.HTTPRouteRule
			for range s.IntN(4) {
				rule.Matches = append(rule.Matches, s.httpMatch())
			}
			o.Spec.Rules = append(o.Spec.Rules, rule)
		}
		if !s.has(meta.Name) {
			s.http = append(s.http, o)
		}
	}
	return s
}

func (s *routeSet) has(name string) bool {
	for _, o := range s.http {
		if o.Name == name {
			return true
		}
	}
	for _, o := range s.grpc {
		if o.Name == name {
			return true
		}
	}
	return false
}

// rules builds the set's rules; all of it must be accepted.
func (s *routeSet) rules(t *testing.T) []mesh.Rule {
	t.Helper()
	rules, statuses := mesh.BuildRoutes(parent, mesh.RouteInputs{
		HTTPRoutes: s.http, GRPCRoutes: s.grpc,
		Services: map[mesh.Key]*mesh.Service{parent: {Key: parent, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}}}},
	})
	for _, status := range statuses {
		if c := status.Conditions[0]; !c.True {
			t.Fatalf("%s is not accepted: %s", status.Object, c.Message)
		}
	}
	return rules[80].For("anybody")
}

func pick[T any](s *routeSet, from ...T) T { return from[s.IntN(len(from))] }

func (s *routeSet) httpMatch() gatewayv1.HTTPRouteMatch {
	var m gatewayv1.HTTPRouteMatch
	switch s.IntN(4) {
	case 0:
		m.Path = &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchExact), Value: new(pick(s, "/", "/a", "/a/b", "/a/"))}
	case 1:
		m.Path = &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchPathPrefix), Value: new(pick(s, "/", "/a", "/a/", "/a/b", "/b"))}
	case 2:
		m.Path = &gatewayv1.HTTPPathMatch{Type: new(gatewayv1.PathMatchRegularExpression), Value: new(pick(s, "/a.*", "/(a|b)", "/[ab]/?", ".*b"))}
	}
	if s.IntN(3) == 0 {
		m.Method = new(pick(s, gatewayv1.HTTPMethodGet, gatewayv1.HTTPMethodPost))
	}
	for range s.IntN(3) {
		h := gatewayv1.HTTPHeaderMatch{Name: pick[gatewayv1.HTTPHeaderName](s, "x-a", "X-A", "X-B"), Value: pick(s, "1", "2")}
		if s.IntN(3) == 0 {
			h.Type, h.Value = new(gatewayv1.HeaderMatchRegularExpression), pick(s, "[12]", "1|3", "1.*")
		}
		m.Headers = append(m.Headers, h)
	}
	for range s.IntN(3) {
		q := gatewayv1.HTTPQueryParamMatch{Name: pick[gatewayv1.HTTPHeaderName](s, "q", "r"), Value: pick(s, "1", "2")}
		if s.IntN(3) == 0 {
			q.Type, q.Value = new(gatewayv1.QueryParamMatchRegularExpression), "[12]?"
		}
		m.QueryParams = append(m.QueryParams, q)
	}
	return m
}

func (s *routeSet) grpcMatch() gatewayv1.GRPCRouteMatch {
	var m gatewayv1.GRPCRouteMatch
	if s.IntN(4) > 0 {
		m.Method = &gatewayv1.GRPCMethodMatch{}
		if s.IntN(3) > 0 {
			m.Method.Service = new(pick(s, "shop.Cart", "shop.Pay", "Cart"))
		}
		if m.Method.Service == nil || s.IntN(2) == 0 {
			m.Method.Method = new(pick(s, "Get", "List"))
		}
	}
	for range s.IntN(3) {
		m.Headers = append(m.Headers, gatewayv1.GRPCHeaderMatch{Name: pick[gatewayv1.GRPCHeaderName](s, "x-a", "X-A", "x-b"), Value: pick(s, "1", "2")})
	}
	return m
}

func (s *routeSet) request() mesh.Request {
	r := mesh.Request{Method: pick(s, "GET", "POST", "PUT"), Headers: map[string][]string{}}
	if len(s.grpc) > 0 {
		r.Method, r.Path = "POST", "/"+pick(s, "shop.Cart", "shop.Pay", "Cart", "Other")+"/"+pick(s, "Get", "List", "Put")
	} else {
		r.Path = pick(s, "/", "/a", "/a/", "/a/b", "/a/b/c", "/ab", "/b", "/b/x", "/c") + pick(s, "", "", "?q=1", "?q=2&r=1", "?r=3&q=1&q=2")
	}
	for _, name := range []string{"x-a", "x-b"} {
		if s.IntN(2) == 0 {
			r.Headers[name] = []string{pick(s, "1", "2", "13")}
		}
	}
	return r
}

// candidate is a match that a request meets, with the specification's criteria as numbers: more is
// better, in this order.
type candidate struct {
	criteria []int
	created  time.Time
	name     string
	rule     int
	origin   string
}

// oracle walks through all matches and keeps the best by the text of
// https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule and …/#grpcrouterule.
func (s *routeSet) oracle(r mesh.Request) string {
	var best *candidate
	consider := func(c candidate) {
		if best == nil || c.beats(*best) {
			best = &c
		}
	}
	for _, o := range s.http {
		for i, rule := range o.Spec.Rules {
			if len(rule.Matches) == 0 {
				rule.Matches = []gatewayv1.HTTPRouteMatch{{}}
			}
			for _, m := range rule.Matches {
				if criteria, ok := httpCriteria(m, r); ok {
					consider(candidate{criteria, o.CreationTimestamp.Time, o.Name, i, fmt.Sprintf("HTTPRoute shop/%s rule %d", o.Name, i)})
				}
			}
		}
	}
	for _, o := range s.grpc {
		for i, rule := range o.Spec.Rules {
			if len(rule.Matches) == 0 {
				rule.Matches = []gatewayv1.GRPCRouteMatch{{}}
			}
			for _, m := range rule.Matches {
				if criteria, ok := grpcCriteria(m, r); ok {
					consider(candidate{criteria, o.CreationTimestamp.Time, o.Name, i, fmt.Sprintf("GRPCRoute shop/%s rule %d", o.Name, i)})
				}
			}
		}
	}
	if best == nil {
		return "none"
	}
	return best.origin
}

func (c candidate) beats(other candidate) bool {
	for i := range c.criteria {
		if c.criteria[i] != other.criteria[i] {
			return c.criteria[i] > other.criteria[i]
		}
	}
	if !c.created.Equal(other.created) {
		return c.created.Before(other.created)
	}
	if c.name != other.name {
		return c.name < other.name
	}
	return c.rule < other.rule
}

func httpCriteria(m gatewayv1.HTTPRouteMatch, r mesh.Request) ([]int, bool) {
	path, query, _ := strings.Cut(r.Path, "?")
	exact, regex, prefix, method := 0, 0, 0, 0
	kind, value := gatewayv1.PathMatchPathPrefix, "/"
	if m.Path != nil {
		kind, value = *m.Path.Type, *m.Path.Value
	}
	switch kind {
	case gatewayv1.PathMatchExact:
		if path != value {
			return nil, false
		}
		exact = 1
	case gatewayv1.PathMatchRegularExpression: // ours: between exact and prefix, the longest first
		if !fullMatch(value, path) {
			return nil, false
		}
		regex = len(value)
	default:
		elements, want := strings.Split(strings.Trim(path, "/"), "/"), strings.Split(strings.Trim(value, "/"), "/")
		if value != "/" && (len(elements) < len(want) || strings.Join(elements[:len(want)], "/") != strings.Join(want, "/")) {
			return nil, false
		}
		prefix = len(strings.TrimRight(value, "/"))
	}
	if m.Method != nil {
		if string(*m.Method) != r.Method {
			return nil, false
		}
		method = 1
	}
	headers := map[string]bool{}
	for _, h := range m.Headers {
		name := strings.ToLower(string(h.Name))
		if headers[name] {
			continue
		}
		headers[name] = true
		if !holds(h.Type != nil && *h.Type == gatewayv1.HeaderMatchRegularExpression, h.Value, r.Headers[name]) {
			return nil, false
		}
	}
	params := map[string]bool{}
	for _, q := range m.QueryParams {
		if params[string(q.Name)] {
			continue
		}
		params[string(q.Name)] = true
		var values []string
		for _, pair := range strings.Split(query, "&") {
			if v, ok := strings.CutPrefix(pair, string(q.Name)+"="); ok && values == nil {
				values = []string{v}
			}
		}
		if !holds(q.Type != nil && *q.Type == gatewayv1.QueryParamMatchRegularExpression, q.Value, values) {
			return nil, false
		}
	}
	return []int{exact, regex, prefix, method, len(headers), len(params)}, true
}

func grpcCriteria(m gatewayv1.GRPCRouteMatch, r mesh.Request) ([]int, bool) {
	parts := strings.Split(r.Path, "/")
	service, method := 0, 0
	if m.Method != nil && m.Method.Service != nil {
		if *m.Method.Service != parts[1] {
			return nil, false
		}
		service = len(parts[1])
	}
	if m.Method != nil && m.Method.Method != nil {
		if *m.Method.Method != parts[2] {
			return nil, false
		}
		method = len(parts[2])
	}
	headers := map[string]bool{}
	for _, h := range m.Headers {
		name := strings.ToLower(string(h.Name))
		if headers[name] {
			continue
		}
		headers[name] = true
		if !holds(false, h.Value, r.Headers[name]) {
			return nil, false
		}
	}
	return []int{service, method, len(headers)}, true
}

func holds(regex bool, want string, values []string) bool {
	if len(values) == 0 {
		return false
	}
	if regex {
		return fullMatch(want, values[0])
	}
	return values[0] == want
}

func fullMatch(pattern, text string) bool {
	return regexp.MustCompile("^(?:" + pattern + ")$").MatchString(text)
}
