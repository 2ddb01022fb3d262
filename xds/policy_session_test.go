package xds_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// rulesOf are those of an HTTPRoute on Service cart.
func (f *fleet) rulesOf(rules string) []mesh.Rule {
	f.t.Helper()
	in := mesh.RouteInputs{Services: map[mesh.Key]*mesh.Service{}}
	for _, svc := range f.services {
		in.Services[svc.Key] = svc
	}
	in.HTTPRoutes = []*gatewayv1.HTTPRoute{decode[gatewayv1.HTTPRoute](f.t,
		[]byte("metadata: {name: r, namespace: shop}\nspec:\n  parentRefs: [{group: '', kind: Service, name: cart}]\n  rules:\n"+rules))}
	built, statuses := mesh.BuildRoutes(parent, in)
	for _, c := range statuses[0].Conditions {
		if c.True == (c.Type == gatewayv1.RouteConditionPartiallyInvalid) {
			f.t.Fatalf("%s: %s", c.Type, c.Message)
		}
	}
	return built[80].For("anybody")
}

// sessionOf makes a client's first call, and gives its endpoint and what it sends from then on.
type sessionOf func(f *fleet, path string) (endpoint string, headers []string)

func byCookie(name, path string, maxAge int) sessionOf {
	return func(f *fleet, url string) (string, []string) {
		f.t.Helper()
		res, endpoint := f.get(url)
		c := theCookie(f.t, res, name)
		if c.Path != path || c.MaxAge != maxAge {
			f.t.Fatalf("Set-Cookie: %q, want path %q and Max-Age %d", res.Header["Set-Cookie"], path, maxAge)
		}
		return endpoint, []string{"cookie", "other=1; " + name + "=" + c.Value}
	}
}

func byHeader(name string) sessionOf {
	return func(f *fleet, url string) (string, []string) {
		f.t.Helper()
		res, endpoint := f.get(url)
		if res.Header.Get(name) == "" {
			f.t.Fatalf("no %s in the answer: %v", name, res.Header)
		}
		return endpoint, []string{name, res.Header.Get(name)}
	}
}

// A session stays at its endpoint while others come, and moves on when it goes.
func TestSessions(t *testing.T) {
	for name, c := range map[string]struct {
		rules   string
		policy  *mesh.Session
		session sessionOf
	}{
		"of a rule":            {rules: "  - {matches: [{path: {value: /shop}}], backendRefs: [{name: cart, port: 80}], sessionPersistence: {sessionName: s}}\n", session: byCookie("s", "/shop", 0)},
		"of a rule, permanent": {rules: "  - {backendRefs: [{name: cart, port: 80}], sessionPersistence: {sessionName: s, absoluteTimeout: 1h, cookieConfig: {lifetimeType: Permanent}}}\n", session: byCookie("s", "/", 3600)},
		"of a rule, by header": {rules: "  - {backendRefs: [{name: cart, port: 80}], sessionPersistence: {sessionName: X-Session, type: Header}}\n", session: byHeader("X-Session")},
		"of the Service":       {policy: &mesh.Session{Name: "p"}, session: byCookie("p", "", 0)},
		"of both":              {policy: &mesh.Session{Name: "p"}, rules: "  - {backendRefs: [{name: cart, port: 80}], sessionPersistence: {sessionName: s}}\n", session: byCookie("s", "/", 0)},
	} {
		t.Run(name, func(t *testing.T) {
			svc := service("cart")
			svc.Traffic.Session = c.policy
			f := newFleet(t, svc)
			a, b, d := named(t, "a"), named(t, "b"), named(t, "d")
			f.set("cart", a.address)
			var rules []mesh.Rule
			if c.rules != "" {
				rules = f.rulesOf(c.rules)
			}
			f.serve(rules)
			const url = "/shop/x?q"
			endpoint, headers := c.session(f, url)
			if endpoint != "a" {
				t.Fatalf("the first call went to %q", endpoint)
			}
			f.set("cart", a.address, b.address, d.address)
			eventually(t, "others at the new endpoints", func() bool {
				f.get(url)
				return b.calls.Load() > 0 && d.calls.Load() > 0
			})
			for range 50 {
				res, got := f.get(url, headers...)
				if got != "a" || len(res.Header["Set-Cookie"]) > 0 {
					t.Fatalf("the session went to %q, Set-Cookie: %q", got, res.Header["Set-Cookie"])
				}
			}
			f.set("cart", b.address, d.address)
			eventually(t, "the session at another endpoint", func() bool {
				res, got := f.get(url, headers...)
				if res.StatusCode != 200 {
					t.Fatalf("%d %s", res.StatusCode, got)
				}
				return got != "a"
			})
			endpoint, headers = c.session(f, url)
			for range 20 {
				if _, got := f.get(url, headers...); got != endpoint {
					t.Fatalf("the new session of %s went to %s", endpoint, got)
				}
			}
		})
	}
}

// New clients are shared by the weights; a session keeps its Service whatever they are.
func TestSessionsOfSeveralBackends(t *testing.T) {
	const rule = "  - backendRefs: [{name: cart, port: 80, weight: 1}, {name: v2, port: 80, weight: 1}, {name: old, port: 80, weight: 0}]\n"
	for name, rules := range map[string]string{
		"of the rule":     rule + "    sessionPersistence: {sessionName: s}\n",
		"of each Service": rule,
	} {
		t.Run(name, func(t *testing.T) {
			cart, v2, old := service("cart"), service("v2"), service("old")
			for _, svc := range []*mesh.Service{cart, v2, old} {
				svc.Traffic.Session = &mesh.Session{Name: "s"}
			}
			f := newFleet(t, cart, v2, old)
			f.set("cart", named(t, "cart 1").address, named(t, "cart 2").address)
			f.set("v2", named(t, "v2 1").address, named(t, "v2 2").address)
			f.set("old", named(t, "old").address)
			f.serve(f.rulesOf(rules))
			shares, kept := map[string]int{}, map[string]*http.Cookie{}
			for range 200 {
				res, endpoint := f.get("/")
				shares[strings.Fields(endpoint)[0]]++
				if len(res.Cookies()) != 1 {
					t.Fatalf("%d %s: Set-Cookie: %q", res.StatusCode, endpoint, res.Header["Set-Cookie"])
				}
				kept[endpoint] = res.Cookies()[0]
			}
			if shares["cart"] < 60 || shares["v2"] < 60 || len(shares) != 2 || len(kept) != 4 {
				t.Fatalf("new clients: %v, %d endpoints", shares, len(kept))
			}
			// Clients of the time when it had a weight.
			kept["old"] = &http.Cookie{Name: nameOf(t, f, "old"), Value: "of-an-endpoint-that-is-gone"}
			for endpoint, cookie := range kept {
				for range 20 {
					if _, got := f.get("/", "cookie", cookie.Name+"="+cookie.Value); got != endpoint {
						t.Fatalf("the session of %s went to %s", endpoint, got)
					}
				}
			}
		})
	}
}

// nameOf is the cookie of a backend.
func nameOf(t *testing.T, f *fleet, service string) string {
	t.Helper()
	for _, b := range f.rulesOf("  - backendRefs: [{name: cart, port: 80, weight: 1}, {name: v2, port: 80, weight: 1}, {name: old, port: 80, weight: 0}]\n    sessionPersistence: {sessionName: s}\n")[0].Action.Pinned {
		if b.Service.Name == service {
			return b.Session.Name
		}
	}
	t.Fatalf("%s has no session", service)
	return ""
}

// A session does not hold at an endpoint that was ejected, and a try after another goes elsewhere.
func TestSessionsLeaveBadEndpoints(t *testing.T) {
	svc := ejecting(50)
	svc.Traffic.Session = &mesh.Session{Name: "s"}
	svc.Calls = config.Calls{RetryOn: []string{"5xx"}}
	bad, good := failing(t), named(t, "good")
	f := newFleet(t, svc)
	f.set("cart", bad.address)
	f.serve(nil)
	_, headers := byCookie("s", "", 0)(f, "/")
	f.set("cart", bad.address, good.address)
	goodInARow(t, f, 20)
	for begin := time.Now(); time.Since(begin) < time.Second; {
		if res, got := f.get("/", headers...); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, got)
		}
	}
}
