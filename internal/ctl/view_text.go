package ctl

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// renderService writes a view for people.
func renderService(v serviceView, p paint) string {
	var b strings.Builder
	b.WriteString(p.in(bold, fmt.Sprintf("Service %s/%s", v.Namespace, v.Name)))
	for _, a := range v.Addresses {
		b.WriteString("  " + a)
	}
	b.WriteString("\n")
	if v.Note != "" {
		b.WriteString("  " + v.Note + "\n")
	}
	var annotations table
	for _, name := range slices.Sorted(maps.Keys(v.Annotations)) {
		annotations.row(cell{}, cell{text: name}, cell{text: v.Annotations[name]})
	}
	for _, s := range v.Policies {
		annotations.row(cell{}, cell{text: s.Name}, cell{text: s.Value}, cell{s.Source, dim})
	}
	b.WriteString(annotations.String(p))
	for _, port := range v.Ports {
		b.WriteString("\n" + renderPort(v, port, p))
	}
	if len(v.Problems) > 0 {
		b.WriteString("\n" + p.in(bold, "Not as written") + "\n" + renderProblems(v.Problems, p))
	}
	return b.String()
}

var protocolTexts = map[mesh.Protocol]string{
	mesh.HTTP:   "HTTP",
	mesh.TCP:    "opaque TCP: balanced by connection",
	mesh.Detect: "HTTP if the client's first bytes are HTTP",
}

func renderPort(v serviceView, port portView, p paint) string {
	title := fmt.Sprintf("Port %d", port.Port)
	if port.Name != "" {
		title += " (" + port.Name + ")"
	}
	text := p.in(bold, title) + "  " + protocolTexts[port.Protocol]
	if e := port.Endpoints; e != nil {
		var shade colour
		if e.Ready == 0 {
			shade = red
		}
		text += "  " + p.in(shade, e.String())
	}
	text += "\n"
	consumers := map[string]bool{}
	for _, g := range port.Groups {
		if g.Clients != "" {
			consumers[g.Clients] = true
		}
	}
	for _, g := range port.Groups {
		switch {
		case g.Clients != "":
			text += fmt.Sprintf("  only for clients in namespace %s\n", g.Clients)
		case len(consumers) > 0:
			text += "  for all other clients\n"
		}
		text += indent(renderGroup(v.Namespace, g, p))
	}
	return text
}

func renderGroup(namespace string, g groupView, p paint) string {
	var t table
	heads := []string{"#", "RULE", "MATCH", "TO"}
	if slices.ContainsFunc(g.Rules, func(r ruleView) bool { return len(r.Settings) > 0 }) {
		heads = append(heads, "SETTING", "SAID BY")
	}
	row := make([]cell, len(heads))
	for i, h := range heads {
		row[i] = cell{h, dim}
	}
	t.row(row...)
	for _, r := range g.Rules {
		var settings, sources []cell
		for _, s := range r.Settings {
			settings = append(settings, cell{text: s.Name + " " + s.Value})
			sources = append(sources, cell{s.Source, dim})
		}
		t.block([]cell{{text: fmt.Sprint(r.Order)}}, ruleCells(r), matchCells(r, g), destinationCells(namespace, r), settings, sources)
	}
	if g.NoMatchClosed {
		t.block(plain("-"), plain("no rule matches"), nil, []cell{{"closed", red}})
	}
	if g.NoMatch != 0 {
		t.block(plain("-"), plain("no rule matches"), nil, []cell{{noMatchText(g), red}})
	}
	return t.String(p)
}

// noMatchText: a gRPC client takes 404 for UNIMPLEMENTED.
// https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md
func noMatchText(g groupView) string {
	text := fmt.Sprintf("%d Not Found", g.NoMatch)
	if len(g.rules) > 0 && g.rules[0].Origin.Route.Kind == mesh.KindGRPCRoute {
		text += " (gRPC: UNIMPLEMENTED)"
	}
	return text
}

func ruleCells(r ruleView) []cell {
	if r.Route == "" {
		return plain("no route is attached")
	}
	where := fmt.Sprintf("rules[%d].matches[%d]", r.Rule, r.Match)
	switch kind, _, _ := strings.Cut(r.Route, " "); mesh.Kind(kind) {
	case mesh.KindTLSRoute:
		where = fmt.Sprintf("hostnames[%d]", r.Match)
	case mesh.KindTCPRoute, mesh.KindUDPRoute:
		where = fmt.Sprintf("rules[%d]", r.Rule)
	}
	if r.Name != "" {
		where += " " + r.Name
	}
	return []cell{{text: r.Route}, {where, dim}}
}

func matchCells(r ruleView, g groupView) []cell {
	out := plain(r.Conditions...)
	switch {
	case len(out) > 0:
	case g.Connections:
		out = plain("every connection")
	default:
		out = plain("every request")
	}
	if r.ShadowedBy > 0 {
		out = append(out, cell{fmt.Sprintf("unreachable: rule %d matches all of its requests", r.ShadowedBy), yellow})
	}
	return out
}

// destinationCells leave out the namespace that is the Service's own.
func destinationCells(namespace string, r ruleView) []cell {
	if r.Redirect != "" {
		return plain("redirect " + r.Redirect)
	}
	if r.Closed {
		return []cell{{text: "closed", colour: red}, {r.Reason, dim}}
	}
	if r.Status != 0 {
		return []cell{{text: fmt.Sprint(r.Status), colour: red}, {r.Reason, dim}}
	}
	var out []cell
	width := 0
	for _, b := range r.Backends {
		width = max(width, len(percentText(b.Percent)))
	}
	for _, b := range r.Backends {
		share := ""
		if len(r.Backends) > 1 {
			share = fmt.Sprintf("%*s %%  ", width, percentText(b.Percent))
		}
		name := strings.TrimPrefix(b.Service, namespace+"/")
		if b.Port != 0 {
			name += fmt.Sprintf(":%d", b.Port)
		}
		c := cell{text: share + name}
		switch {
		case b.Closed:
			c = cell{fmt.Sprintf("%sclosed in place of %s", share, name), red}
		case b.Status != 0:
			c = cell{fmt.Sprintf("%s%d in place of %s", share, b.Status, name), red}
		}
		out = append(out, c)
		for _, f := range b.Filters {
			out = append(out, cell{strings.Repeat(" ", len(share)) + f, dim})
		}
	}
	return out
}

func renderProblems(problems []problemView, p paint) string {
	var t table
	for _, problem := range problems {
		object := problem.Object
		if problem.Parent != "" {
			object += ", " + problem.Parent
		}
		t.row(cell{text: object}, cell{problem.Reason, yellow}, cell{text: problem.Message})
	}
	return indent(t.String(p))
}

func indent(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		b.WriteString("  " + line)
	}
	return b.String()
}

// renderUnrouted is one line for each Service without routes, of which there is nothing more to say.
func renderUnrouted(views []serviceView, p paint) string {
	var t table
	for _, v := range views {
		var ports []string
		for _, port := range v.Ports {
			ports = append(ports, fmt.Sprintf("%d/%s", port.Port, port.Protocol))
		}
		note := v.Note
		if note == "" {
			note = "no routes: every request goes to the Service itself"
		}
		t.row(cell{fmt.Sprintf("Service %s/%s", v.Namespace, v.Name), bold}, cell{text: strings.Join(ports, ", ")}, cell{text: note})
	}
	return t.String(p)
}

// unrouted: nothing was asked for and nothing is wrong.
func (v serviceView) unrouted() bool {
	for _, port := range v.Ports {
		for _, g := range port.Groups {
			if !g.Implicit {
				return false
			}
		}
	}
	return len(v.Problems)+len(v.Annotations)+len(v.Policies) == 0
}

// hasRules: some port is HTTP.
func (v serviceView) hasRules() bool {
	return slices.ContainsFunc(v.Ports, func(p portView) bool { return len(p.Groups) > 0 })
}
