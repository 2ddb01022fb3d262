package xds_test

import (
	"fmt"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestShadowedRulesMeetNothing: over random route sets, no request meets a rule that is called shadowed, and
// a rule that covers another takes each request of it. What is not called shadowed may be so by several rules
// together, but most that meets nothing is found.
func TestShadowedRulesMeetNothing(t *testing.T) {
	found, unmet := 0, 0
	for seed := range uint64(150) {
		set := randomRoutes(seed)
		rules := set.rules(t)
		by := mesh.ShadowedBy(rules)
		met := make([]int, len(rules))
		for range 120 {
			request := set.request()
			for i := range rules {
				for j := range rules {
					if rules[j].Match.Covers(rules[i].Match) && rules[i].Match.Matches(request) && !rules[j].Match.Matches(request) {
						t.Fatalf("seed %d: %+v\nmatches %+v\nbut not %+v", seed, request, rules[i].Match, rules[j].Match)
					}
				}
			}
			if r := mesh.Route(rules, request); r != nil {
				for i := range rules {
					if &rules[i] == r {
						met[i]++
					}
				}
			}
		}
		for i := range rules {
			if met[i] == 0 {
				unmet++
			}
			if by[i] < 0 {
				continue
			}
			found++
			if met[i] > 0 {
				t.Fatalf("seed %d: %s meets requests, in spite of %s", seed, describe(rules[i]), describe(rules[by[i]]))
			}
		}
	}
	// Without this the test would hold for a function that finds nothing.
	if found < 80 {
		t.Errorf("of %d rules that met no request %d are found", unmet, found)
	}
	t.Logf("of %d rules that met no request %d are found", unmet, found)
}

func describe(r mesh.Rule) string { return fmt.Sprintf("%s: %+v", r.Origin, r.Match) }
