package envoy

import (
	"encoding/json"
	"math/rand/v2"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// read gives an admission as the agent reads it.
func read(t *testing.T, in mesh.Inbound) sds.Admission {
	t.Helper()
	b, err := protojson.Marshal(admissionOf(in, config.Default()).Metadata().GetFilterMetadata()[sds.AdmissionMetadata])
	if err != nil {
		t.Fatal(err)
	}
	var out sds.Admission
	if err := json.Unmarshal(b, &out); err != nil {
		t.Fatal(err)
	}
	return out
}

// Whoever may have a connection may keep it, and nobody else, where policies look at the caller alone.
func TestAdmissionIsAuthorization(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	callers := []mesh.Caller{{Namespace: "shop", ServiceAccount: "web"}, {Namespace: "shop", ServiceAccount: "cart"}, {Namespace: "shop2", ServiceAccount: "web"}}
	froms := [][]mesh.Caller{nil, {callers[0]}, {{Namespace: "shop"}}, {callers[1], callers[2]}}
	ports := [][]uint16{nil, {80}, {81, 82}}
	admitted := 0
	for range 1000 {
		in := mesh.Inbound{Mode: config.MTLSModes[r.IntN(len(config.MTLSModes))], Ports: map[uint16]config.MTLSMode{}}
		for _, port := range []uint16{80, 83} {
			if r.IntN(3) == 0 {
				in.Ports[port] = config.MTLSModes[r.IntN(len(config.MTLSModes))]
			}
		}
		for range r.IntN(4) {
			p := mesh.Policy{Name: "shop/a", Deny: r.IntN(2) == 0, DryRun: r.IntN(4) == 0}
			for range r.IntN(3) {
				p.Rules = append(p.Rules, mesh.CallRule{From: froms[r.IntN(len(froms))], Ports: ports[r.IntN(len(ports))]})
			}
			in.Policies = append(in.Policies, p)
		}
		got := read(t, in)
		for _, port := range []uint16{80, 81, 83, 84} {
			for _, c := range append(callers, mesh.Caller{}) {
				id, let := "", in.ModeAt(port) != config.Strict
				if c.Namespace != "" {
					id, let = mesh.SPIFFEID(config.Default().MTLS.TrustDomain, c.Namespace, c.ServiceAccount), true
				}
				verdict, _ := mesh.Authorize(in.Policies, mesh.Call{Port: port, Caller: c})
				if want := verdict.Allowed && let; got.Admits(port, id) != want {
					t.Fatalf("%q at %d: admitted %t, want %t; %+v\n%+v", id, port, !want, want, in, got)
				} else if want {
					admitted++
				}
			}
		}
	}
	if admitted == 0 || admitted == 1000*16 {
		t.Errorf("%d are admitted", admitted)
	}
}

// Where policies look at requests, a connection is ended of those alone who are refused whatever they ask.
func TestAdmissionAndRequests(t *testing.T) {
	get := []mesh.HTTPMatch{{Methods: []string{"GET"}}}
	web, cart := mesh.Caller{Namespace: "shop", ServiceAccount: "web"}, mesh.Caller{Namespace: "shop", ServiceAccount: "cart"}
	policy := func(deny bool, from ...mesh.Caller) mesh.Policy {
		return mesh.Policy{Name: "shop/a", Deny: deny, Rules: []mesh.CallRule{{From: from, Ports: []uint16{80}, HTTP: get}}}
	}
	for name, c := range map[string]struct {
		policy           mesh.Policy
		web, cart, plain bool
	}{
		"a Deny":          {policy(true, web), true, true, true},
		"a Deny for all":  {policy(true), true, true, true},
		"an Allow":        {policy(false, web), true, false, false},
		"an Allow of all": {policy(false), true, true, true},
	} {
		got := read(t, mesh.Inbound{Mode: config.Permissive, Policies: []mesh.Policy{c.policy}})
		id := func(c mesh.Caller) string {
			return mesh.SPIFFEID(config.Default().MTLS.TrustDomain, c.Namespace, c.ServiceAccount)
		}
		if w, k, p := got.Admits(80, id(web)), got.Admits(80, id(cart)), got.Admits(80, ""); w != c.web || k != c.cart || p != c.plain {
			t.Errorf("%s: admitted %t, %t, %t, want %t, %t, %t", name, w, k, p, c.web, c.cart, c.plain)
		}
	}
}
