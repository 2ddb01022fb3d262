package xds_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// randomPolicies are of few words, so that they often agree and contradict each other.
type randomPolicies struct{ *rand.Rand }

func (r randomPolicies) policies(port uint16) []mesh.Policy {
	out := make([]mesh.Policy, r.IntN(5))
	for i := range out {
		out[i] = mesh.Policy{Name: fmt.Sprintf("shop/p%d", i), Deny: r.IntN(3) == 0, DryRun: r.IntN(3) == 0}
		for range r.IntN(3) + 1 {
			out[i].Rules = append(out[i].Rules, r.rule(port))
		}
		if !out[i].Deny && r.IntN(8) == 0 {
			out[i].Rules = nil
		}
	}
	return out
}

func (r randomPolicies) rule(port uint16) mesh.CallRule {
	var out mesh.CallRule
	for range r.IntN(3) {
		out.From = append(out.From, oneOf(r, mesh.Caller{Namespace: "shop", ServiceAccount: "client"}, mesh.Caller{Namespace: "shop"},
			mesh.Caller{Namespace: "bank"}, mesh.Caller{Namespace: "bank", ServiceAccount: "client"}))
	}
	if r.IntN(2) == 0 {
		out.Ports = []uint16{port}
	}
	if r.IntN(8) == 0 {
		out.Ports = []uint16{1}
	}
	for range r.IntN(3) {
		if len(out.Ports) == 0 {
			break
		}
		var m mesh.HTTPMatch
		if r.IntN(2) == 0 {
			m.Methods = []string{oneOf(r, "GET", "POST")}
		}
		if r.IntN(4) > 0 {
			m.Path = oneOf(r, prefix("/a"), prefix("/a/b:c"), &mesh.TextMatch{Type: mesh.Exact, Value: "/a"},
				&mesh.TextMatch{Type: mesh.Regex, Value: "/a/[a-z]+"}, &mesh.TextMatch{Type: mesh.Exact, Value: "/"})
		}
		if len(m.Methods) > 0 || m.Path != nil {
			out.HTTP = append(out.HTTP, m)
		}
	}
	return out
}

func oneOf[T any](r randomPolicies, from ...T) T { return from[r.IntN(len(from))] }

var somePaths = []string{
	"/", "/a", "/a/", "/a/b", "/a/b:c", "/a/b:c/d", "/a/b%3Ac", "/ab", "/a?x=/../b", "/a//b", "/a/./b", "/a/../b", "/a%2Fb", "/%61", "/a;b", "/a/%C3%A9", "/a%20b", "/b",
}

// The real Envoy does with each call what mesh.Authorize says, and tells in its log of the same calls, and by which
// policies, that they are refused or would be.
func TestEnvoyAgreesWithAuthorize(t *testing.T) {
	a := newCA(t)
	callers := map[string]mesh.Caller{
		"": {}, idClient: {Namespace: "shop", ServiceAccount: "client"}, idOther: {Namespace: "shop", ServiceAccount: "other"},
		mesh.SPIFFEID(trustDomain, "bank", "client"): {Namespace: "bank", ServiceAccount: "client"},
	}
	app := named(t, "app")
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := randomPolicies{rand.New(rand.NewPCG(seed, 5))}
			in := mesh.Inbound{Mode: config.Permissive}
			pod := startCalled(t, a, idCart, func(port uint16) mesh.Inbound {
				if in.Policies = r.policies(port); r.IntN(2) == 0 {
					in.DeclareHTTP([]uint16{port})
				}
				return in
			}, app.address)
			policies, port := in.Policies, pod.inbound.Port()
			http := slices.Contains(in.HTTPPorts(), port)
			lines := map[string]int{} // what is to be in the log
			for id, caller := range callers {
				c := callerOf(t, a, pod, id, http && r.IntN(2) == 0)
				for range 12 {
					call := mesh.Call{Port: port, Caller: caller, Method: oneOf(r, "GET", "POST", "DELETE"), Path: oneOf(r, somePaths...)}
					verdict, wouldBe := mesh.Authorize(policies, call)
					status, body, _ := c.do(call.Method, call.Path)
					c.client.CloseIdleConnections() // without HTTP each is judged by its connection
					if served := status == 200; served != verdict.Allowed || (http && !served && status != 403) {
						t.Fatalf("%q, %s %s: %d %s, want %+v by\n%+v", id, call.Method, call.Path, status, body, verdict, policies)
					}
					switch {
					case !verdict.Allowed:
						lines["call refused by "+verdict.By]++
					case !wouldBe.Allowed:
						lines["call would be refused by "+wouldBe.By]++
					}
				}
			}
			eventually(t, fmt.Sprintf("a log of %v for\n%+v", lines, policies), func() bool {
				got := map[string]int{}
				for line := range strings.Lines(pod.envoy.log.String()) {
					if strings.HasPrefix(line, "{") && strings.HasPrefix(field(line, "message"), "call ") {
						got[field(line, "message")+" by "+field(line, "policy")]++
					}
				}
				return fmt.Sprint(got) == fmt.Sprint(lines)
			})
		})
	}
}

// Each path is read by Envoy as mesh.Authorize reads it, be it one that servers may read in different ways.
func TestEnvoyAgreesOnPaths(t *testing.T) {
	a := newCA(t)
	app := named(t, "app")
	for _, path := range []*mesh.TextMatch{
		prefix("/a"), prefix("/a/b:c"), {Type: mesh.Exact, Value: "/a"}, {Type: mesh.Regex, Value: "/a.*"},
	} {
		for _, deny := range []bool{false, true} {
			var policies []mesh.Policy
			pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
				policies = []mesh.Policy{{Name: "shop/p", Deny: deny, Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Path: path}}}}}}
				return policies
			}), app.address)
			c := callerOf(t, a, pod, idClient, false)
			for _, sent := range somePaths {
				verdict, _ := mesh.Authorize(policies, mesh.Call{Port: pod.inbound.Port(), Method: "GET", Path: sent})
				if status, _, _ := c.do("GET", sent); (status == 200) != verdict.Allowed {
					t.Errorf("deny %t, %+v, %s: %d, want %+v", deny, *path, sent, status, verdict)
				}
			}
		}
	}
}

// field is a text field of a line.
func field(line, name string) string {
	_, rest, _ := strings.Cut(line, `"`+name+`":"`)
	value, _, _ := strings.Cut(rest, `"`)
	return value
}
