package mesh

import "cmp"

// compareRules orders the rules of one group. The first rule that matches a request is used.
//
// HTTPRoute (https://gateway-api.sigs.k8s.io/reference/spec/#httprouterule): exact path, longest
// prefix, method, most headers, most query parameters. The place of regular expressions is left to implementations. Here
// they come between exact and prefix, the longest first: behind the prefix "/", which is the path of a rule without a
// path, they would never be tried.
//
// GRPCRoute (…/#grpcrouterule): most characters in the service, then in the method, most headers. A
// regular expression comes after all exact names, before "any".
//
// TLSRoute: a whole name, then the longest suffix, then any.
//
// Then for all: oldest route, "namespace/name", position in the route.
func compareRules(a, b Rule) int {
	byMatch := compareHTTP
	if a.Match.TLS != nil && b.Match.TLS != nil {
		byMatch = compareTLS
	}
	if a.Match.GRPC != nil && b.Match.GRPC != nil {
		byMatch = compareGRPC
	}
	return cmp.Or(
		byMatch(a.Match, b.Match),
		a.Origin.Created.Compare(b.Origin.Created),
		cmp.Compare(a.Origin.Route.String(), b.Origin.Route.String()), // a group has routes of one kind
		cmp.Compare(a.Origin.Rule, b.Origin.Rule),
		cmp.Compare(a.Origin.Match, b.Origin.Match),
	)
}

// typeRank orders types, the most specific first. Prefix is the least specific type of a path; "" is any name.
var typeRank = map[MatchType]int{Exact: 0, Regex: 1, Prefix: 2, "": 3}

func compareHTTP(a, b Match) int {
	return cmp.Or(
		compareText(&a.Path, &b.Path, a.Path.Type != Exact), // two different exact paths never match the same request
		-compareBool(a.Method != "", b.Method != ""),
		-cmp.Compare(len(a.Headers), len(b.Headers)),
		-cmp.Compare(len(a.Query), len(b.Query)),
	)
}

func compareGRPC(a, b Match) int {
	return cmp.Or(
		compareText(a.GRPC.Service, b.GRPC.Service, true),
		compareText(a.GRPC.Method, b.GRPC.Method, true),
		-cmp.Compare(len(a.Headers), len(b.Headers)),
	)
}

func compareTLS(a, b Match) int { return CompareHosts(a.TLS.ServerName, b.TLS.ServerName) }

// compareText orders texts, the more specific type first, then the longer one if byLength is set.
func compareText(a, b *TextMatch, byLength bool) int {
	var x, y TextMatch
	if a != nil {
		x = *a
	}
	if b != nil {
		y = *b
	}
	order := cmp.Compare(typeRank[x.Type], typeRank[y.Type])
	if order == 0 && byLength {
		order = -cmp.Compare(len(x.Value), len(y.Value))
	}
	return order
}

func compareBool(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return 1
	default:
		return -1
	}
}
