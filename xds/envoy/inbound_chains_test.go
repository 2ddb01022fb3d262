package envoy

import (
	"maps"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

func chainsByName(in mesh.Inbound) map[string]*listenerv3.FilterChain {
	cfg := config.Default()
	out := map[string]*listenerv3.FilterChain{}
	for _, c := range inboundChains(in, cfg, true) {
		out[c.Name] = c
	}
	return out
}

// What is said of one port changes the chains of that port alone, so that Envoy keeps the connections to others.
func TestChainsOfOtherPortsStay(t *testing.T) {
	rule := func(ports ...uint16) mesh.CallRule {
		return mesh.CallRule{From: []mesh.Caller{{Namespace: "shop"}}, Ports: ports}
	}
	requests := rule(9090)
	requests.HTTP = []mesh.HTTPMatch{{Methods: []string{"GET"}}}
	deny := func(rules ...mesh.CallRule) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/deny", Deny: true, Rules: rules}}
	}
	before := mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080), rule(9090))}
	for name, c := range map[string]struct {
		after   mesh.Inbound
		changed []string
	}{
		"nothing":             {before, nil},
		"a mode":              {mesh.Inbound{Mode: config.Strict, Ports: map[uint16]config.MTLSMode{8080: config.Permissive}, Policies: before.Policies}, []string{"passthrough", "passthrough/9090"}},
		"a rule for one port": {mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080), rule(9090), requests)}, []string{"mtls/9090", "mtls/9090/http", "passthrough", "passthrough/9090", "passthrough/but/9090"}},
		"another port":        {mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080), rule(9090), rule(7070))}, []string{"mtls/7070", "mtls/7070/http", "passthrough/7070"}},
		"nobody at a port":    {mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080), rule(9090), mesh.CallRule{Ports: []uint16{7070}})}, []string{"mtls/7070", "mtls/7070/http", "passthrough", "passthrough/7070/judged", "passthrough/but/7070"}},
		"one port less":       {mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080))}, []string{"mtls/9090", "mtls/9090/http", "passthrough/9090"}},
		"a certificate":       {mesh.Inbound{Mode: config.Permissive, Policies: before.Policies, ForwardCert: []uint16{1}}, []string{"mtls/1", "passthrough", "passthrough/1", "passthrough/but/1"}},
		"a declaration":       {mesh.Inbound{Mode: config.Permissive, Policies: before.Policies, HTTP: []uint16{8080}}, []string{"mtls/8080", "mtls/8080/http"}},
		"all ports":           {mesh.Inbound{Mode: config.Permissive, Policies: deny(rule(8080), rule(9090), rule())}, []string{"mtls", "mtls/8080", "mtls/8080/http", "mtls/9090", "mtls/9090/http", "mtls/http"}},
	} {
		was, is := chainsByName(before), chainsByName(c.after)
		var changed []string
		for _, chain := range slices.Sorted(maps.Keys(union(was, is))) {
			if chain != refuseChain && !proto.Equal(was[chain], is[chain]) { // no connection lives in that one
				changed = append(changed, chain)
			}
		}
		if !slices.Equal(changed, c.changed) {
			t.Errorf("%s: %v are changed, want %v", name, changed, c.changed)
		}
	}
}

func union[K comparable, V any](a, b map[K]V) map[K]V {
	out := maps.Clone(a)
	maps.Copy(out, b)
	return out
}
