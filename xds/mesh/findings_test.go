package mesh

import (
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Faults and UnresolvedRefs are what the conditions say, in parts: put together they are the messages.
func TestFindingsAreTheConditions(t *testing.T) {
	const meta, parents = `metadata: {namespace: shop, name: r}, `, `parentRefs: [{group: "", kind: Service, name: cart, port: 80}], `
	for name, c := range map[string]struct {
		http, grpc string
		whole      bool
		dropped    []int
	}{
		"nothing": {http: `{` + meta + `spec: {` + parents + `rules: [{backendRefs: [{name: cart, port: 80}]}]}}`},
		"some rules": {
			http:    `{` + meta + `spec: {` + parents + `rules: [{name: a, timeouts: {request: x}}, {backendRefs: [{name: cart, port: 80}, {name: gone, port: 1}]}, {retry: {codes: [1]}}]}}`,
			dropped: []int{0, 2},
		},
		"all rules":    {http: `{` + meta + `spec: {` + parents + `rules: [{timeouts: {request: x}}]}}`, whole: true, dropped: []int{0}},
		"unknown word": {http: `{` + meta + `spec: {` + parents + `rules: [{}, {matches: [{method: BREW}]}]}}`, whole: true, dropped: []int{1}},
		"annotation": {
			grpc:  `{metadata: {namespace: shop, name: r, annotations: {mizzen.dev/timeout: x}}, spec: {` + parents + `rules: [{filters: [{type: ExtensionRef}], backendRefs: [{name: cart}]}]}}`,
			whole: true, dropped: []int{-1},
		},
	} {
		in := RouteInputs{Services: services}
		var faults []Fault
		if c.http != "" {
			in.HTTPRoutes = append(in.HTTPRoutes, read[gatewayv1.HTTPRoute](t, c.http))
			faults = HTTPRouteFaults(in.HTTPRoutes[0])
		} else {
			in.GRPCRoutes = append(in.GRPCRoutes, read[gatewayv1.GRPCRoute](t, c.grpc))
			faults = GRPCRouteFaults(in.GRPCRoutes[0])
		}
		_, statuses := BuildRoutes(cart, in)
		said := ""
		for _, condition := range statuses[0].Conditions {
			said += condition.Message + "\n"
		}
		if len(faults) != len(c.dropped) || strings.Count(said, ": want ") < len(faults) {
			t.Errorf("%s: %v for\n%s", name, faults, said)
			continue
		}
		for i, f := range faults {
			if !strings.Contains(said, f.String()) || f.WholeRoute != c.whole || f.Rule != c.dropped[i] {
				t.Errorf("%s: %+v for\n%s", name, f, said)
			}
		}
		if whole := statuses[0].Conditions[0].Reason == gatewayv1.RouteReasonUnsupportedValue; whole != c.whole {
			t.Errorf("%s: %+v", name, statuses[0])
		}
		var texts []string
		for _, u := range UnresolvedRefs(cart, in) {
			texts = append(texts, u.Field+": "+u.Problem)
		}
		if refs := statuses[0].Conditions[1]; refs.True != (texts == nil) || (texts != nil && refs.Message != strings.Join(texts, "; ")) {
			t.Errorf("%s: %q for %+v", name, texts, refs)
		}
	}
}
