package ctl

import (
	"fmt"
	"net/http"
	"strings"
)

func renderRequest(v requestView, p paint) string {
	var b strings.Builder
	b.WriteString(p.in(bold, v.Request) + "  to ")
	if v.Gateway != "" {
		fmt.Fprintf(&b, "Gateway %s, port %d", v.Gateway, v.Port)
	} else {
		fmt.Fprintf(&b, "Service %s, port %d", v.Service, v.Port)
	}
	if v.Clients != "" {
		fmt.Fprintf(&b, ", from a client in namespace %s", v.Clients)
	}
	b.WriteString("\n" + indent(v.takers().String(p)))
	switch {
	case v.Closed:
		return b.String() + "  → " + p.in(red, "no connection") + ": " + v.Note + "\n"
	case v.Note != "" && v.Status != 0:
		return b.String() + "  → " + p.in(red, fmt.Sprintf("%d %s", v.Status, http.StatusText(int(v.Status)))) + ": " + v.Note + "\n"
	case v.Note != "":
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

// takers are the listener of a Gateway that takes the request, with its certificates, and the virtual host.
func (v requestView) takers() *table {
	var t table
	if l := v.listener; l != nil {
		t.row(cell{text: "listener"}, cell{text: l.Name}, cell{text: strings.Join(strings.Fields(listenerText(*l)), " ") + v.by})
		for _, c := range v.Certificates {
			t.row(cell{text: "certificate"}, cell{text: "Secret " + c}, cell{v.CertificateNote, yellow})
		}
	}
	if v.Host != "" {
		t.row(cell{text: "host"}, cell{text: v.Host})
	}
	return &t
}
