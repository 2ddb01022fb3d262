package mesh

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// ShadowedBy returns, for each rule, the index of an earlier rule that takes every request that the rule would match, or
// -1. A rule that is found never gets a request. A rule that gets none because of several earlier rules together is not
// found.
func ShadowedBy(rules []Rule) []int {
	out := make([]int, len(rules))
	for i := range rules {
		out[i] = -1
		for j := range i {
			if rules[j].Match.Covers(rules[i].Match) {
				out[i] = j
				break
			}
		}
	}
	return out
}

// SamePrecedence reports whether only the age, the name, or the position in the route decides which of two rules comes
// first.
func SamePrecedence(a, b Rule) bool {
	a.Origin, b.Origin = Origin{}, Origin{}
	return compareRules(a, b) == 0
}

// Covers reports whether every request that matches n surely matches m. It also returns false if it cannot tell, as for
// most pairs of regular expressions.
func (m Match) Covers(n Match) bool {
	return m.Path.coversPath(n.Path) && (m.Method == "" || m.Method == n.Method) &&
		coverFields(m.Headers, n.Headers) && coverFields(m.Query, n.Query) && m.TLS.covers(n.TLS)
}

// covers reports whether t matches every connection that u matches. nil, as in rules of TCPRoutes and of requests, matches
// everything.
func (t *TLSMatch) covers(u *TLSMatch) bool {
	switch {
	case t == nil:
		return true
	case u == nil:
		return false
	}
	return HostCovers(t.ServerName, u.ServerName)
}

// coverFields reports whether each condition of a follows from a condition of b on the same name.
func coverFields(a, b []FieldMatch) bool {
	for _, x := range a {
		implied := false
		for _, y := range b {
			implied = implied || (x.Name == y.Name && x.coversText(y.TextMatch))
		}
		if !implied {
			return false
		}
	}
	return true
}

func (t TextMatch) coversPath(u TextMatch) bool {
	if t.every() {
		return true
	}
	switch {
	case t.Type == Prefix && u.Type == Prefix:
		return t.matches(u.Value) // /a takes /a/b, element by element
	case t.Type == Prefix && u.Type == Exact:
		return t.matches(u.Value)
	case t.Type == Prefix:
		// All texts that the expression matches begin with "/a/".
		return strings.HasPrefix(literalStart(u.Value), t.Value+"/")
	case t.Type == Regex && u.Type == Prefix:
		// "/" also matches requests without a path, which the expression may not match.
		start, ok := startAlone(t.Value)
		return ok && (start == "" || (u.Value != "/" && strings.HasPrefix(u.Value, start)))
	default:
		return t.coversText(u)
	}
}

func (t TextMatch) coversText(u TextMatch) bool {
	switch {
	case t == u:
		return true
	case u.Type == Exact:
		return t.matches(u.Value)
	case t.Type == Regex && u.Type == Regex:
		start, ok := startAlone(t.Value)
		return ok && strings.HasPrefix(literalStart(u.Value), start)
	default:
		return false
	}
}

// literalStart returns the text that everything that an expression matches begins with.
func literalStart(expression string) string {
	re, err := regexp.Compile(expression)
	if err != nil {
		return ""
	}
	start, _ := re.LiteralPrefix()
	return start
}

// startAlone returns the literal of an expression of the form "<literal>.*", which matches every text that begins with the
// literal. Paths and headers never contain the line breaks that "." does not match.
func startAlone(expression string) (string, bool) {
	tree, err := syntax.Parse(expression, syntax.Perl)
	if err != nil {
		return "", false
	}
	tree = tree.Simplify()
	parts := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		parts = tree.Sub
	}
	last := parts[len(parts)-1]
	if last.Op != syntax.OpStar || (last.Sub[0].Op != syntax.OpAnyChar && last.Sub[0].Op != syntax.OpAnyCharNotNL) {
		return "", false
	}
	switch {
	case len(parts) == 1:
		return "", true
	case len(parts) == 2 && parts[0].Op == syntax.OpLiteral && parts[0].Flags&syntax.FoldCase == 0:
		return string(parts[0].Rune), true
	default:
		return "", false
	}
}
