package ctl

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// requestView says where a request goes.
type requestView struct {
	Request string `json:"request"`
	Service string `json:"service"`
	Port    uint16 `json:"port"`
	// Clients is the namespace of the clients whose rules apply, or empty for all other clients.
	Clients string `json:"clients,omitempty"`
	// Tried are the rules in their order, up to the one that the request matches.
	Tried []triedView `json:"tried,omitempty"`
	// Met is that rule; nil if no rule matches and Status is the answer.
	Met    *ruleView `json:"met,omitempty"`
	Status uint32    `json:"status,omitempty"`
	// Note says why there are no rules.
	Note string `json:"note,omitempty"`

	namespace string
	group     groupView
}

type triedView struct {
	Order int    `json:"order"`
	Route string `json:"route,omitempty"`
	Rule  int    `json:"rule"`
	// Failed are the false conditions; none if the rule matches.
	Failed []string `json:"failed,omitempty"`
}

// parseRequest reads "METHOD /path?query", "/path" or, for a gRPC call, "package.Service/Method".
func parseRequest(text string, headers []string) (mesh.Request, error) {
	r := mesh.Request{Method: "GET", Headers: map[string][]string{}}
	fields := strings.Fields(text)
	bad := func(problem string) (mesh.Request, error) {
		return r, fmt.Errorf(`--request: %q: %s; want "METHOD /path", "/path" or, for gRPC, "package.Service/Method"`, text, problem)
	}
	switch len(fields) {
	case 1:
		r.Path = fields[0]
	case 2:
		r.Method, r.Path = fields[0], fields[1]
	default:
		return bad("not one or two words")
	}
	switch {
	case len(fields) == 1 && !strings.HasPrefix(r.Path, "/") && strings.Count(r.Path, "/") == 1:
		r.Method, r.Path = "POST", "/"+r.Path
	case !strings.HasPrefix(r.Path, "/") && (r.Method != "OPTIONS" || r.Path != "*"):
		return bad("no path")
	case r.Method != strings.ToUpper(r.Method):
		return bad("methods are in upper case")
	}
	for _, h := range headers {
		name, value, ok := strings.Cut(h, ":")
		if !ok || strings.TrimSpace(name) == "" {
			return r, fmt.Errorf(`-H: %q: want "name: value"`, h)
		}
		name = strings.ToLower(strings.TrimSpace(name))
		r.Headers[name] = append(r.Headers[name], strings.TrimSpace(value))
	}
	return r, nil
}

// landing simulates a request to each HTTP port of a view.
func (v serviceView) landing(r mesh.Request) ([]requestView, error) {
	var out []requestView
	for _, port := range v.Ports {
		base := requestView{Request: r.Method + " " + r.Path, Service: v.Namespace + "/" + v.Name, Port: port.Port, namespace: v.Namespace}
		if len(port.Groups) == 0 {
			base.Note = protocolTexts[port.Protocol]
			out = append(out, base)
		}
		for _, g := range port.Groups {
			view := base
			view.Clients, view.group = g.Clients, g
			if g.Connections {
				view.Note = "this port balances connections, not requests; run the command without --request to see its rules"
			} else {
				view.try(r)
			}
			out = append(out, view)
		}
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("--request: Service %s/%s: %s", v.Namespace, v.Name, v.Note)
	}
	return out, nil
}

func (v *requestView) try(r mesh.Request) {
	met := mesh.Route(v.group.rules, r)
	for i := range v.group.rules {
		rule := &v.group.rules[i]
		tried := triedView{Order: i + 1, Route: v.group.Rules[i].Route, Rule: rule.Origin.Rule}
		if rule == met {
			v.Tried, v.Met = append(v.Tried, tried), &v.group.Rules[i]
			return
		}
		for _, c := range conditionsOf(rule.Match) {
			if !c.Matches(r) {
				tried.Failed = append(tried.Failed, c.text)
			}
		}
		v.Tried = append(v.Tried, tried)
	}
	v.Status = http.StatusNotFound
}

func renderRequest(v requestView, p paint) string {
	var b strings.Builder
	b.WriteString(p.in(bold, v.Request) + fmt.Sprintf("  to Service %s, port %d", v.Service, v.Port))
	if v.Clients != "" {
		fmt.Fprintf(&b, ", from a client in namespace %s", v.Clients)
	}
	b.WriteString("\n")
	if v.Note != "" {
		return b.String() + "  " + v.Note + "\n"
	}
	var t table
	for _, tried := range v.Tried {
		verdict := cell{"meets it", green}
		if len(tried.Failed) > 0 {
			verdict = cell{"not met: " + strings.Join(tried.Failed, ", "), dim}
		}
		cells := ruleCells(v.group.Rules[tried.Order-1])
		name := cells[0].text
		if len(cells) > 1 {
			name += " " + cells[1].text
		}
		t.row(cell{text: fmt.Sprintf("rule %d", tried.Order)}, cell{text: name}, verdict)
	}
	b.WriteString(indent(t.String(p)))
	if v.Met == nil {
		b.WriteString("  → " + p.in(red, noMatchText(v.group)) + ": no rule matches\n")
		return b.String()
	}
	if v.Met.Status != 0 {
		return b.String() + "  → " + p.in(red, fmt.Sprint(v.Met.Status)) + ": " + v.Met.Reason + "\n"
	}
	for _, c := range destinationCells(v.namespace, *v.Met) {
		b.WriteString("  → " + p.in(c.colour, c.text) + "\n")
	}
	var settings table
	for _, s := range v.Met.Settings {
		settings.row(cell{text: "    " + s.Name + " " + s.Value}, cell{s.Source, dim})
	}
	b.WriteString(settings.String(p))
	return b.String()
}
