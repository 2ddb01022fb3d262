package mesh

import (
	"cmp"
	"slices"
)

// attachment is the routes of a group, without doubles.
type attachment struct{ routes []*route }

// kindRank is which kind of route holds in a group: "If multiple routes with different types both bind to the same
// Service and Port pair, only a single route type should be applied", the first of these.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#route-types
var kindRank = map[Kind]int{KindGRPCRoute: 0, KindHTTPRoute: 1, KindTLSRoute: 2, KindTCPRoute: 3}

// kindOrder is kindRank in words.
const kindOrder = "a Service port uses routes of one kind: the first of GRPCRoute, HTTPRoute, TLSRoute and TCPRoute"

// holder is the route that holds in the group where r would: r itself, or one of a kind that comes before, or an older one
// that leaves r nothing.
func (a *attachment) holder(r *route) *route {
	first := slices.MinFunc(a.routes, func(x, y *route) int {
		return cmp.Or(cmp.Compare(kindRank[x.Kind], kindRank[y.Kind]), compareAge(x, y))
	})
	switch {
	case first.Kind != r.Kind:
		return first
	case r.Kind == KindTCPRoute: // which says nothing of connections by which two could share them
		return first
	case r.Kind == KindTLSRoute && len(a.taken(r)) == len(r.serverNames):
		return a.taken(r)[0].by
	}
	return r
}

// takenName is a hostname of a TLSRoute that an older one has, too.
type takenName struct {
	name string
	by   *route
}

// taken are the hostnames of a TLSRoute that have no effect in the group.
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

// compareAge has the oldest route first, and of two of one age that whose name comes first.
// https://gateway-api.sigs.k8s.io/guides/api-design/#conflicts
func compareAge(a, b *route) int {
	return cmp.Or(a.created.Compare(b.created), cmp.Compare(a.Key.String(), b.Key.String()))
}
