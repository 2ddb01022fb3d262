package mesh

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
)

// policiesFrom reads the specs of policies of namespace shop, by name.
func policiesFrom(t *testing.T, specs map[string]string) []*v1alpha1.AuthorizationPolicy {
	t.Helper()
	var out []*v1alpha1.AuthorizationPolicy
	for name, spec := range specs {
		o := &v1alpha1.AuthorizationPolicy{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, Generation: 3}}
		if err := yaml.UnmarshalStrict([]byte(spec), &o.Spec); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		out = append(out, o)
	}
	return out
}

func holdFor(pod *Pod, list []*v1alpha1.AuthorizationPolicy) []Policy {
	var all []PodPolicy
	for _, o := range list {
		all = append(all, BuildPodPolicy(o))
	}
	return PoliciesOf(pod, slices.Values(all))
}

func cartPod() *Pod {
	return &Pod{Key: Key{"shop", "cart-0"}, Labels: map[string]string{"app": "cart", "tier": "back"}}
}

func TestAuthorize(t *testing.T) {
	web, far, none := Caller{"shop", "web"}, Caller{"bank", "web"}, Caller{}
	get := func(port uint16, by Caller, path string) Call {
		return Call{Port: port, Caller: by, Method: "GET", Path: path}
	}
	allowed := func(by string) Verdict { return Verdict{true, by} }
	refused := func(by string) Verdict { return Verdict{false, by} }
	for name, c := range map[string]struct {
		specs map[string]string
		calls map[Call]Verdict
		// wouldBe are the calls that policies in dry run would refuse.
		wouldBe map[Call]Verdict
	}{
		"no policy": {nil, map[Call]Verdict{get(80, none, "/"): allowed("")}, nil},
		"other pods": {map[string]string{"a": "podSelector: {matchLabels: {app: web}}", "b": "podSelector: {matchExpressions: [{key: tier, operator: DoesNotExist}]}"},
			map[Call]Verdict{get(80, none, "/"): allowed("")}, nil},
		"nobody":    {map[string]string{"a": "{}"}, map[Call]Verdict{get(80, web, "/"): refused(""), get(80, none, "/"): refused("")}, nil},
		"everybody": {map[string]string{"a": "rules: [{}]"}, map[Call]Verdict{get(80, web, "/"): allowed("shop/a"), get(80, none, "/"): allowed("shop/a")}, nil},
		"own account by default": {map[string]string{"a": "rules: [{from: [{serviceAccount: {name: web}}]}]"},
			map[Call]Verdict{get(80, web, "/"): allowed("shop/a"), get(80, far, "/"): refused(""), get(80, none, "/"): refused("")}, nil},
		"namespace": {map[string]string{"a": "podSelector: {matchLabels: {app: cart}}\nrules: [{from: [{namespace: bank}]}]"},
			map[Call]Verdict{get(80, web, "/"): refused(""), get(80, far, "/"): allowed("shop/a"), get(80, none, "/"): refused("")}, nil},
		"items are ored, parts are anded": {map[string]string{"a": "rules: [{from: [{namespace: bank}, {namespace: shop}], ports: [80, 81]}]"},
			map[Call]Verdict{get(80, web, "/"): allowed("shop/a"), get(81, far, "/"): allowed("shop/a"), get(82, web, "/"): refused(""), get(80, none, "/"): refused("")}, nil},
		"deny wins": {map[string]string{"a": "rules: [{}]", "b": "action: Deny\nrules: [{from: [{namespace: bank}]}]"},
			map[Call]Verdict{get(80, web, "/"): allowed("shop/a"), get(80, far, "/"): refused("shop/b"), get(80, none, "/"): allowed("shop/a")}, nil},
		"deny alone": {map[string]string{"b": "action: Deny\nrules: [{ports: [81]}]"},
			map[Call]Verdict{get(80, none, "/"): allowed(""), get(81, web, "/"): refused("shop/b")}, nil},
		"the first by name": {map[string]string{"b": "rules: [{}]", "a": "rules: [{from: [{namespace: bank}]}]"},
			map[Call]Verdict{get(80, far, "/"): allowed("shop/a"), get(80, web, "/"): allowed("shop/b")}, nil},
		"method and path": {map[string]string{"a": "rules: [{ports: [80], http: [{methods: [GET, HEAD], path: {type: PathPrefix, value: /cart/}}]}]"},
			map[Call]Verdict{
				get(80, web, "/cart"): allowed("shop/a"), get(80, none, "/cart/1?x=//"): allowed("shop/a"), get(80, web, "/cartoon"): refused(""),
				{80, web, "POST", "/cart"}: refused(""), get(81, web, "/cart"): refused(""), get(80, web, "/cart//1"): refused(""), {80, web, "CONNECT", ""}: refused(""),
			}, nil},
		"every path": {map[string]string{"a": "rules: [{ports: [80], http: [{path: {type: PathPrefix, value: /}}]}]"},
			map[Call]Verdict{get(80, web, "/a//b"): allowed("shop/a"), get(80, web, "*"): allowed("shop/a")}, nil},
		"exact": {map[string]string{"a": "rules: [{ports: [80], http: [{path: {type: Exact, value: /cart/}}]}]"},
			map[Call]Verdict{get(80, web, "/cart/"): allowed("shop/a"), get(80, web, "/cart"): refused("")}, nil},
		"expression": {map[string]string{"a": `rules: [{ports: [80], http: [{path: {type: RegularExpression, value: "/[0-9]+"}}]}]`},
			map[Call]Verdict{get(80, web, "/12"): allowed("shop/a"), get(80, web, "/12/"): refused(""), get(80, web, "/1%32"): refused("")}, nil},
		"denied path": {map[string]string{"b": "action: Deny\nrules: [{from: [{namespace: shop}], ports: [80], http: [{methods: [GET], path: {type: PathPrefix, value: /admin}}]}]"},
			map[Call]Verdict{
				get(80, web, "/admin/x"): refused("shop/b"), get(80, web, "/administer"): allowed(""), get(80, web, "/x/..;/admin"): refused("shop/b"),
				get(80, web, "//admin"): refused("shop/b"), get(80, web, "/%61dmin"): refused("shop/b"), get(80, web, "*"): refused("shop/b"),
				get(80, far, "//admin"): allowed(""), {80, web, "POST", "//admin"}: allowed(""), get(81, web, "//admin"): allowed(""), get(80, web, "/caf%C3%A9"): allowed(""),
			}, nil},
		"gRPC": {map[string]string{"a": "rules: [{ports: [80], grpc: [{service: shop.Cart, method: Add}, {service: shop.Web}]}]"},
			map[Call]Verdict{
				{80, web, "POST", "/shop.Cart/Add"}: allowed("shop/a"), {80, web, "POST", "/shop.Cart/Del"}: refused(""),
				{80, web, "POST", "/shop.Web/Any"}: allowed("shop/a"), {80, web, "POST", "/shop.Webs/Any"}: refused(""),
			}, nil},
		"dry run": {map[string]string{"a": "dryRun: true\nrules: [{from: [{namespace: shop}]}]", "b": "action: Deny\ndryRun: true\nrules: [{ports: [81]}]"},
			map[Call]Verdict{get(80, web, "/"): allowed(""), get(80, far, "/"): allowed(""), get(81, web, "/"): allowed("")},
			map[Call]Verdict{get(80, far, "/"): refused(""), get(81, web, "/"): refused("shop/b")}},
		"dry run beside others": {map[string]string{"a": "dryRun: true\nrules: [{from: [{namespace: shop}]}]", "c": "rules: [{from: [{namespace: bank}]}]"},
			map[Call]Verdict{get(80, web, "/"): refused(""), get(80, far, "/"): allowed("shop/c")}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			policies := holdFor(cartPod(), policiesFrom(t, c.specs))
			for call, want := range c.calls {
				got, wouldBe := Authorize(policies, call)
				if got != want {
					t.Errorf("%+v: %+v, want %+v", call, got, want)
				}
				if want, ok := c.wouldBe[call]; ok && wouldBe != want {
					t.Errorf("%+v: would be %+v, want %+v", call, wouldBe, want)
				} else if !ok && wouldBe.Allowed != got.Allowed {
					t.Errorf("%+v: would be %+v without dry run", call, wouldBe)
				}
				// What holds at a port says the same without the others.
				in := Inbound{Policies: policies}
				port := call.Port
				if !slices.Contains(in.PolicyPorts(), port) {
					port = 0
				}
				if at, _ := Authorize(in.PoliciesAt(port), call); at != got {
					t.Errorf("%+v: %+v by the policies at port %d, want %+v", call, at, port, got)
				}
			}
		})
	}
}

func TestPortsOfPolicies(t *testing.T) {
	in := Inbound{ForwardCert: []uint16{9090}, Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{
		"a": "rules: [{ports: [8081, 8080], http: [{methods: [GET]}]}, {ports: [7000]}]",
		"b": "action: Deny\ndryRun: true\nrules: [{ports: [8082], grpc: [{service: a}]}]",
	}))}
	if got, want := in.HTTPPorts(), []uint16{8080, 8081, 8082, 9090}; !slices.Equal(got, want) {
		t.Errorf("HTTP: %v, want %v", got, want)
	}
	if got, want := in.PolicyPorts(), []uint16{7000, 8080, 8081, 8082, 9090}; !slices.Equal(got, want) {
		t.Errorf("all: %v, want %v", got, want)
	}
}

// Pods that take the same have one String, and others another.
func TestInboundString(t *testing.T) {
	seen := map[string]string{}
	for name, in := range map[string]Inbound{
		"no policies": {Mode: "strict"},
		"one":         {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{ports: [80]}]"}))},
		"dry run":     {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{ports: [80]}]\ndryRun: true"}))},
		"deny":        {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{ports: [80]}]\naction: Deny"}))},
		"other name":  {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"b": "rules: [{ports: [80]}]"}))},
		"no rules":    {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "{}"}))},
		"a path":      {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{ports: [80], http: [{path: {value: /a}}]}]"}))},
		"exact":       {Mode: "strict", Policies: holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{ports: [80], http: [{path: {type: Exact, value: /a}}]}]"}))},
		"forward":     {Mode: "strict", ForwardCert: []uint16{80}},
	} {
		if other, ok := seen[in.String()]; ok {
			t.Errorf("%s and %s are both %s", name, other, in)
		}
		seen[in.String()] = name
	}
	same := map[string]string{"a": "rules: [{ports: [80, 81]}]", "b": "rules: [{ports: [81, 80, 81]}]"}
	a := Inbound{Policies: holdFor(cartPod(), policiesFrom(t, same))}
	for range 10 { // in any order of a map
		if b := (Inbound{Policies: holdFor(cartPod(), policiesFrom(t, same))}); a.String() != b.String() {
			t.Fatalf("%s and %s", a, b)
		}
	}
}

// What the schema would have refused: a condition names it, an Allow allows no more by it, a Deny denies no less.
func TestPoliciesThatCannotBeUsed(t *testing.T) {
	call := Call{Port: 80, Caller: Caller{"shop", "web"}, Method: "GET", Path: "/"}
	for spec, want := range map[string]string{
		"action: Log\nrules: [{}]": `spec.action: "Log": want Allow or Deny`,
		"rules: [{from: [{}]}]":    "spec.rules[0].from[0]",
		"rules: [{from: [{namespace: shop, serviceAccount: {name: web}}]}]": "exactly one of",
		"rules: [{ports: [0]}]":                                                         `spec.rules[0].ports[0]: "0": want 1 to 65535`,
		"rules: [{http: [{methods: [GET]}]}]":                                           "spec.rules[0].ports",
		"rules: [{ports: [80], http: [{path: {value: a}}]}]":                            `spec.rules[0].http[0].path.value: "a"`,
		"rules: [{ports: [80], http: [{path: {value: /a%2fb}}]}]":                       "without escapes",
		`rules: [{ports: [80], http: [{path: {type: RegularExpression, value: "("}}]}]`: "missing closing )",
		"rules: [{ports: [80], http: [{path: {type: Suffix, value: /a}}]}]":             `path.type: "Suffix"`,
		"rules: [{ports: [80], grpc: [{service: a/b}]}]":                                "spec.rules[0].grpc[0]",
		"rules: [{ports: [80], grpc: [{service: a}], http: [{methods: [POST]}]}]":       "not both",
	} {
		for _, action := range []v1alpha1.Action{"", v1alpha1.Deny} {
			o := policiesFrom(t, map[string]string{"a": spec})[0]
			if o.Spec.Action != "" && action != "" {
				continue
			}
			if o.Spec.Action == "" {
				o.Spec.Action = action
			}
			c := PolicyConditions(o, true)[0]
			if c.True || c.Reason != v1alpha1.ReasonInvalid || !strings.Contains(c.Message, want) {
				t.Errorf("%s %s: %+v, want %q", action, spec, c, want)
			}
			if verdict, _ := Authorize(holdFor(cartPod(), []*v1alpha1.AuthorizationPolicy{o}), call); verdict.Allowed && o.Spec.Action != "Log" {
				t.Errorf("%s %s: allowed", action, spec)
			}
		}
	}
	// One bad rule does not take the others of an Allow with it.
	verdict, _ := Authorize(holdFor(cartPod(), policiesFrom(t, map[string]string{"a": "rules: [{from: [{}]}, {from: [{namespace: shop}]}]"})), call)
	if diff := cmp.Diff(Verdict{true, "shop/a"}, verdict); diff != "" {
		t.Error(diff)
	}
	// A selector that says nothing that can be known selects no pod.
	o := policiesFrom(t, map[string]string{"a": "podSelector: {matchExpressions: [{key: app, operator: Is}]}"})[0]
	if c := PolicyConditions(o, true)[0]; c.True || !strings.Contains(c.Message, "spec.podSelector") || !strings.Contains(c.Message, "applies to no pod and refuses nothing") || len(holdFor(cartPod(), []*v1alpha1.AuthorizationPolicy{o})) > 0 {
		t.Errorf("%+v", c)
	}
}

func TestPolicyConditions(t *testing.T) {
	for spec, want := range map[string]string{
		"rules: [{}]":               "calls that match no rule of an Allow are refused",
		"{}":                        "the policy has no rules",
		"action: Deny\nrules: [{}]": "calls that match a rule are refused",
		"action: Deny\ndryRun: true\nrules: [{}]": "dry run, calls that match a rule are refused in logs and metrics only",
	} {
		o := policiesFrom(t, map[string]string{"a": spec})[0]
		if c := PolicyConditions(o, true)[0]; !c.True || c.Type != v1alpha1.ConditionAccepted || !strings.Contains(c.Message, want) {
			t.Errorf("%s: %+v", spec, c)
		}
		if c := PolicyConditions(o, false)[0]; c.True || c.Reason != v1alpha1.ReasonNoIdentities {
			t.Errorf("%s: %+v", spec, c)
		}
	}
}

func TestPlainPath(t *testing.T) {
	for _, path := range []string{
		"/", "/a", "/a/", "/a.b/c", "/.a", "/..a", "/...", "/a/...", "/a..", "/a.", "/v1/items:batch", "/@me", "/a,b=c&d+e$f!*'()~_-",
		"/caf%C3%A9", "/%E4%BD%A0%f0%9f%98%80", "/a%20b", "/%7Bid%7D", "/me%40example.com", "/a%2Bb%3D%3a",
	} {
		if !PlainPath("/a").MatchString(path) {
			t.Errorf("not plain: %s", path)
		}
	}
	for _, path := range []string{
		"", "a", "*", "//", "/a//b", "/a//", "/.", "/..", "/./a", "/a/../b", "/a/..", "/a/.", "/a;b", "/a/;/b", "/..;/a", `/a\b`, `/\..\a`,
		"/a%2fb", "/a%2Fb", "/%2e%2e/a", "/.%2e/a", "/%2E/a", "/a%5cb", "/a%5Cb", "/a%3bb", "/a%00", "/a%0a", "/a%7f", "/a%25", "/%252e", "/%61", "/%41", "/%30",
		"/%7e", "/%5f", "/%2d", "/a%3Fb", "/a%23b", "/%c0%af", "/%c1%9c", "/%e0%80%af", "/%f0%80%80%af", "/%ff", "/%C3", "/%C3%C3", "/%ed%a", "/%", "/%g1", "/%2", "/a b",
		"/\u00e9", "/a\x00", "/a\n", "http://cart/a", "/a\n/b",
	} {
		if PlainPath("/a").MatchString(path) {
			t.Errorf("plain: %q", path)
		}
	}
	// Where the path that is compared has delimiters, an escape of one is another way to write it.
	if PlainPath("/v1/items:batch").MatchString("/v1/items%3Abatch") || !PlainPath("/v1/items:batch").MatchString("/v1/items:batch") {
		t.Error("an escaped delimiter beside a bare one")
	}
}
