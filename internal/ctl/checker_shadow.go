package ctl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// matchID is a match of a route's rule.
type matchID struct {
	route       mesh.ID
	rule, match int
}

func idOf(o mesh.Origin) matchID { return matchID{o.Route, o.Rule, o.Match} }

// shadow is what becomes of one match, wherever its route is attached.
type shadow struct {
	// met somewhere, or maybe.
	met bool
	// by is a rule that comes before. twin: it says the same, and its route may be the younger one.
	by   mesh.Rule
	twin bool
}

// checkShadows tells which matches no request can meet. Only those that the files have to do with are told.
func (c *checker) checkShadows() {
	shadows := map[matchID]*shadow{}
	var order []matchID
	for _, rules := range c.groups() {
		for i, j := range mesh.ShadowedBy(rules) {
			id := idOf(rules[i].Origin)
			s := shadows[id]
			if s == nil {
				s = &shadow{}
				shadows[id], order = s, append(order, id)
			}
			if j < 0 {
				s.met = true
				continue
			}
			s.by = rules[j]
			if c.ageDecides(rules[i], rules[j]) {
				s.twin = true
				s.met = s.met || !rules[i].Match.Covers(rules[j].Match)
			}
		}
	}
	for _, id := range order {
		if s := shadows[id]; !s.met {
			c.addShadow(id, *s)
		}
	}
}

// groups are all lists of rules of which a request is tried against one.
func (c *checker) groups() [][]mesh.Rule {
	var out [][]mesh.Rule
	for _, parent := range c.after.parents() {
		svc := c.after.Service(parent)
		if svc == nil {
			continue
		}
		rules := c.after.Rules(parent)
		for _, p := range svc.Ports {
			out = append(out, rules[p.Number].Producer)
			for _, namespace := range slices.Sorted(maps.Keys(rules[p.Number].Consumer)) {
				out = append(out, rules[p.Number].Consumer[namespace])
			}
		}
	}
	return slices.DeleteFunc(out, mesh.OfConnections) // of which checkAttached tells
}

// ageDecides: of two rules that are alike else, that of the older route comes first, and which of two new
// routes will be older is not known.
func (c *checker) ageDecides(a, b mesh.Rule) bool {
	return a.Origin.Route != b.Origin.Route && c.isNew(a.Origin.Route) && c.isNew(b.Origin.Route) && mesh.SamePrecedence(a, b)
}

func (c *checker) isNew(r mesh.ID) bool {
	return c.byName[r.String()] != nil && c.before.route(r) == nil
}

func (c *checker) addShadow(id matchID, s shadow) {
	field, first := c.matchField(id), c.matchField(idOf(s.by.Origin))
	if s.by.Origin.Route != id.route {
		first += " of " + s.by.Origin.Route.String()
	}
	conditions := "every request"
	if texts := conditionTexts(s.by.Match); len(texts) > 0 {
		conditions = strings.Join(texts, ", ")
	}
	problem := fmt.Sprintf("no request can match it, because %s comes first and matches all of its requests (%s)", first, conditions)
	if s.twin {
		problem = fmt.Sprintf("the same match as %s (%s): only the older route gets the requests", first, conditions)
	}
	if o := c.byName[id.route.String()]; o != nil {
		c.add(o.finding(severityWarning, field, "", problem, ""))
		return
	}
	if c.byName[s.by.Origin.Route.String()] != nil {
		c.add(finding{Severity: severityWarning, Object: id.route.String(), Field: field, Problem: problem + ", when the files are applied"})
	}
}

// matchField is the match, or the rule where a file leaves the matches out.
func (c *checker) matchField(id matchID) string {
	rule := fmt.Sprintf("spec.rules[%d]", id.rule)
	if o := c.byName[id.route.String()]; o != nil {
		if rules := lookup(o.node, "spec", "rules"); rules == nil || id.rule >= len(rules.Content) || lookup(rules.Content[id.rule], "matches") == nil {
			return rule
		}
	}
	return fmt.Sprintf("%s.matches[%d]", rule, id.match)
}
