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

// shadow is the result for one match, wherever its route is attached.
type shadow struct {
	// reachable somewhere, or maybe.
	met bool
	// by is an earlier rule. twin says that both have the same match, and that the age of their routes decides.
	by   mesh.Rule
	twin bool
}

// checkShadows reports matches that no request can reach, if the files concern them.
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
			twin := c.ageDecides(rules[i], rules[j])
			if s.by.Action == nil || twin {
				s.by = rules[j]
			}
			if twin {
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

// groups returns all lists of rules; a request is tried against one list.
func (c *checker) groups() [][]mesh.Rule {
	var out [][]mesh.Rule
	for _, parent := range c.after.parents() {
		svc := c.after.captured(parent)
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
	for _, key := range c.after.Gateways() {
		for _, s := range c.after.gateway(key).model.Sockets {
			for _, l := range s.Listeners {
				for _, h := range s.Hosts([]mesh.Listener{l}) {
					if !h.Misdirected {
						out = append(out, l.AllRulesFor(h.Name))
					}
				}
			}
		}
	}
	return slices.DeleteFunc(out, mesh.OfConnections) // of which checkAttached and checkConnections tell
}

// ageDecides reports whether only the routes' age orders two rules. The older route comes first, but the age of two new
// routes is not known yet.
func (c *checker) ageDecides(a, b mesh.Rule) bool {
	return a.Origin.Route != b.Origin.Route && c.isNew(a.Origin.Route) && c.isNew(b.Origin.Route) && mesh.SamePrecedence(a, b)
}

func (c *checker) isNew(r mesh.ID) bool {
	return c.byName[r.String()] != nil && c.before.byID[r] == nil
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

// matchField returns the field of the match, or of the rule if the file has no matches.
func (c *checker) matchField(id matchID) string {
	rule := fmt.Sprintf("spec.rules[%d]", id.rule)
	if o := c.byName[id.route.String()]; o != nil {
		if rules := lookup(o.node, "spec", "rules"); rules == nil || id.rule >= len(rules.Content) || lookup(rules.Content[id.rule], "matches") == nil {
			return rule
		}
	}
	return fmt.Sprintf("%s.matches[%d]", rule, id.match)
}
