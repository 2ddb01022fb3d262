package mesh

import (
	"cmp"
	"slices"
)

// attachment is the routes of a group, each once.
type attachment struct{ routes []*route }

// kindRank decides which kind of route has effect in a group: "If multiple routes with different types both bind to the
// same Service and Port pair, only a single route type should be applied". The lowest rank wins.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#route-types
var kindRank = map[Kind]int{KindGRPCRoute: 0, KindHTTPRoute: 1, KindTLSRoute: 2, KindTCPRoute: 3}

// kindOrder is kindRank in words, for messages.
const kindOrder = "a Service port uses routes of one kind: the first of GRPCRoute, HTTPRoute, TLSRoute and TCPRoute"

// holder returns the route that has effect where r would have: r itself, or a route of a kind with a lower rank, or an older
// route that leaves r nothing.
func (a *attachment) holder(r *route) *route {
	first := slices.MinFunc(a.routes, func(x, y *route) int {
		return cmp.Or(cmp.Compare(kindRank[x.Kind], kindRank[y.Kind]), compareAge(x, y))
	})
	switch {
	case first.Kind != r.Kind:
		return first
	case r.Kind == KindTCPRoute: // TCPRoutes have no matches by which two could share the connections
		return first
	case r.Kind == KindTLSRoute && len(a.taken(r)) == len(r.serverNames):
		return a.taken(r)[0].by
	}
	return r
}

// takenName is a hostname of a TLSRoute that an older TLSRoute also has.
type takenName struct {
	name string
	by   *route
}

// taken returns the hostnames of a TLSRoute that have no effect in the group.
func (a *attachment) taken(r *route) []takenName {
	var out []takenName
	for _, name := range r.serverNames {
		var owner *route
		for _, other := range a.routes {
			older := other.Kind == KindTLSRoute && compareAge(other, r) < 0 && slices.Contains(other.serverNames, name)
			if older && (owner == nil || compareAge(other, owner) < 0) {
				owner = other
			}
		}
		if owner != nil {
			out = append(out, takenName{name, owner})
		}
	}
	return out
}

// compareAge orders routes by age, the oldest first, and routes of the same age by name.
// https://gateway-api.sigs.k8s.io/guides/api-design/#conflicts
func compareAge(a, b *route) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.Key.String(), b.Key.String()))
}
