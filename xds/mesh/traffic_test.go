package mesh

import (
	"reflect"
	"strings"
	"testing"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"
	"sigs.k8s.io/yaml"
)

// policyOf is a policy of namespace shop, made some hours after the first.
func policyOf(t *testing.T, name string, hours int, spec string) *gatewayxv1alpha1.XBackendTrafficPolicy {
	t.Helper()
	o := &gatewayxv1alpha1.XBackendTrafficPolicy{}
	if err := yaml.UnmarshalStrict([]byte(spec), &o.Spec); err != nil {
		t.Fatal(err)
	}
	o.Namespace, o.Name, o.Generation = "shop", name, int64(hours+1)
	o.CreationTimestamp = metav1.NewTime(time.Unix(0, 0).Add(time.Duration(hours) * time.Hour))
	if o.Spec.TargetRefs == nil {
		o.Spec.TargetRefs = []gatewayxv1alpha1.LocalPolicyTargetReference{{Kind: "Service", Name: "cart"}}
	}
	return o
}

func TestReadTrafficPolicy(t *testing.T) {
	cookie := func(name string, maxAge time.Duration) TrafficPolicy {
		return TrafficPolicy{Session: &Session{Name: name, MaxAge: maxAge}}
	}
	budget := func(percent, least uint32) TrafficPolicy {
		return TrafficPolicy{RetryBudget: &RetryBudget{percent, least}}
	}
	for spec, c := range map[string]struct {
		want    TrafficPolicy
		invalid string // a part of the message
	}{
		`{}`:                    {},
		`{retryConstraint: {}}`: {want: budget(20, 10)},
		`{retryConstraint: {budget: {percent: 0}, minRetryRate: {count: 3}}}`:                                      {want: budget(0, 3)},
		`{retryConstraint: {minRetryRate: {count: 3, interval: 2s}}}`:                                              {want: budget(20, 2)},
		`{retryConstraint: {minRetryRate: {count: 1000000, interval: 1ms}}}`:                                       {want: budget(20, 1_000_000_000)},
		`{retryConstraint: {budget: {percent: 101}}}`:                                                              {invalid: `spec.retryConstraint.budget.percent: "101": want 0 to 100`},
		`{retryConstraint: {budget: {interval: 2h}}}`:                                                              {invalid: "budget.interval"},
		`{retryConstraint: {budget: {interval: 100ms}}}`:                                                           {invalid: "budget.interval"},
		`{retryConstraint: {minRetryRate: {count: 0}}}`:                                                            {invalid: "minRetryRate.count"},
		`{retryConstraint: {minRetryRate: {interval: 0s}}}`:                                                        {invalid: "minRetryRate.interval"},
		`{sessionPersistence: {sessionName: a}}`:                                                                   {want: cookie("a", 0)},
		`{sessionPersistence: {}}`:                                                                                 {want: cookie("mizzen-session-"+shortHash("shop/cart"), 0)},
		`{sessionPersistence: {sessionName: A, type: Header}}`:                                                     {want: TrafficPolicy{Session: &Session{Name: "a", Header: true}}},
		`{sessionPersistence: {sessionName: a, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}`:     {want: cookie("a", time.Hour)},
		`{sessionPersistence: {sessionName: a, absoluteTimeout: 1h}}`:                                              {invalid: "absoluteTimeout"},
		`{sessionPersistence: {sessionName: a, cookieConfig: {lifetimeType: Permanent}}}`:                          {invalid: "absoluteTimeout"},
		`{sessionPersistence: {sessionName: a, absoluteTimeout: 1500ms, cookieConfig: {lifetimeType: Permanent}}}`: {invalid: "whole seconds"},
		`{sessionPersistence: {sessionName: a, cookieConfig: {lifetimeType: Ever}}}`:                               {invalid: "lifetimeType"},
		`{sessionPersistence: {type: Header, absoluteTimeout: 1h}}`:                                                {invalid: "absoluteTimeout"},
		`{sessionPersistence: {type: Header, cookieConfig: {}}}`:                                                   {invalid: "cookieConfig"},
		`{sessionPersistence: {type: Token}}`:                                                                      {invalid: "want Cookie or Header"},
		`{sessionPersistence: {sessionName: "a;b"}}`:                                                               {invalid: "the name of a cookie"},
		`{sessionPersistence: {sessionName: "Content-Length", type: Header}}`:                                      {invalid: "frame messages"},
	} {
		t.Run(spec, func(t *testing.T) {
			got, statuses := BuildTrafficPolicies(cart, &Service{Key: cart}, []*gatewayxv1alpha1.XBackendTrafficPolicy{policyOf(t, "p", 0, spec)})
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("got %+v, want %+v", got, c.want)
			}
			accepted := statuses[0].Conditions[0]
			if accepted.True != (c.invalid == "") || !strings.Contains(accepted.Message, c.invalid) {
				t.Errorf("%+v, want %q", accepted, c.invalid)
			}
		})
	}
}

func TestTrafficPoliciesOfOneService(t *testing.T) {
	const good, bad = `{retryConstraint: {budget: {percent: %}}}`, `{retryConstraint: {budget: {percent: 101}}}`
	percent := func(name string, hours int, n string) *gatewayxv1alpha1.XBackendTrafficPolicy {
		return policyOf(t, name, hours, strings.ReplaceAll(good, "%", n))
	}
	other := policyOf(t, "other", 0, `{targetRefs: [{group: "", kind: Service, name: other}, {group: x, kind: Service, name: cart}], retryConstraint: {}}`)
	for name, c := range map[string]struct {
		policies []*gatewayxv1alpha1.XBackendTrafficPolicy
		missing  bool
		want     uint32 // percent; 0 for none
		reasons  string
	}{
		"none":            {},
		"of others":       {policies: []*gatewayxv1alpha1.XBackendTrafficPolicy{other}},
		"the oldest":      {policies: []*gatewayxv1alpha1.XBackendTrafficPolicy{percent("a", 2, "1"), other, percent("b", 1, "2")}, want: 2, reasons: "a Conflicted, b Accepted"},
		"of one age":      {policies: []*gatewayxv1alpha1.XBackendTrafficPolicy{percent("b", 1, "2"), percent("a", 1, "1")}, want: 1, reasons: "a Accepted, b Conflicted"},
		"not a bad one":   {policies: []*gatewayxv1alpha1.XBackendTrafficPolicy{policyOf(t, "a", 0, bad), percent("b", 1, "2")}, want: 2, reasons: "a Invalid, b Accepted"},
		"without Service": {policies: []*gatewayxv1alpha1.XBackendTrafficPolicy{percent("a", 1, "1")}, missing: true, reasons: "a TargetNotFound"},
	} {
		t.Run(name, func(t *testing.T) {
			svc := &Service{Key: cart}
			if c.missing {
				svc = nil
			}
			got, statuses := BuildTrafficPolicies(cart, svc, c.policies)
			if (got.RetryBudget == nil) != (c.want == 0) || (got.RetryBudget != nil && got.RetryBudget.Percent != c.want) {
				t.Errorf("got %+v", got.RetryBudget)
			}
			var reasons []string
			for _, s := range statuses {
				a := s.Conditions[0]
				reasons = append(reasons, s.Object.Name+" "+string(a.Reason))
				if a.Type != "Accepted" || a.True != (a.Reason == "Accepted") || s.Generation == 0 || s.Ref.Name != "cart" || *s.Ref.Kind != "Service" {
					t.Errorf("%+v", s)
				}
			}
			if got := strings.Join(reasons, ", "); got != c.reasons {
				t.Errorf("got %s, want %s", got, c.reasons)
			}
		})
	}
	if got := TrafficPolicyTargets(other); !reflect.DeepEqual(got, []Key{{"shop", "other"}}) {
		t.Errorf("targets %v", got)
	}
}

// The names of the cookies tell the backends; the first keeps the name that was asked for.
func TestPin(t *testing.T) {
	backend := func(name string, session *Session) Backend {
		return Backend{Target: Target{Service: Key{"shop", name}, Port: 80}, Valid: true, Session: session}
	}
	s := &Session{Name: "s"}
	invalid := Backend{}
	for name, c := range map[string]struct {
		backends []Backend
		want     string
	}{
		"one":           {backends: []Backend{backend("a", s)}},
		"two":           {backends: []Backend{backend("a", s), backend("b", s)}, want: "a=s b=s-" + shortHash("shop/b:80")},
		"own names":     {backends: []Backend{backend("a", s), backend("b", &Session{Name: "other"})}, want: "a=s b=other"},
		"not all":       {backends: []Backend{backend("a", s), backend("b", nil)}},
		"by header":     {backends: []Backend{backend("a", s), backend("b", &Session{Name: "s", Header: true})}},
		"one of them":   {backends: []Backend{backend("a", s), invalid, backend("b", s)}, want: "a=s b=s-" + shortHash("shop/b:80")},
		"without any":   {backends: []Backend{backend("a", nil), backend("b", nil)}},
		"none is valid": {backends: []Backend{invalid, invalid}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, b := range pin(c.backends) {
				got = append(got, b.Service.Name+"="+b.Session.Name)
			}
			if text := strings.Join(got, " "); text != c.want {
				t.Errorf("got %q, want %q", text, c.want)
			}
			if s.Name != "s" {
				t.Error("a session that others have, too, was changed")
			}
		})
	}
}
