package ctl

import (
	"fmt"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// renderIdentity writes a view for people.
func renderIdentity(v identityView, now time.Time, p paint) string {
	head := p.in(bold, "Pod "+mesh.Key{Namespace: v.Namespace, Name: v.Name}.String())
	if v.Workload != "" {
		head += "  " + v.Workload
	}
	for _, ip := range v.Addresses {
		head += "  " + ip
	}
	parts := []string{head + "\n"}
	if v.Plain != "" {
		parts[0] += "  no identity: calls from and to the pod are plain text\n  " + v.Plain + "\n"
	} else {
		parts[0] += "  " + v.ID + "\n"
	}
	if len(v.Missing) > 0 {
		var t table
		for _, m := range v.Missing {
			t.row(cell{}, cell{m, red})
		}
		parts = append(parts, p.in(bold, "Not known")+"\n"+t.String(p))
	}
	if v.ControlPlane != "" {
		parts = append(parts, renderCertificate(v, now, p), renderRoots(v, now, p))
	}
	if len(v.Takes) > 0 {
		parts = append(parts, renderTakes(v, p))
	}
	if v.Plain == "" && !v.PoliciesUnknown {
		parts = append(parts, renderPolicies(v, p))
	}
	if v.PlainText != nil {
		parts = append(parts, renderPodPlain(*v.PlainText, now, p))
	}
	if len(v.Notes) > 0 {
		parts = append(parts, renderNotes(v.Notes, p))
	}
	return strings.Join(parts, "\n")
}

func renderCertificate(v identityView, now time.Time, p paint) string {
	var t table
	line := func(name string, value cell) { t.row(cell{}, cell{name, dim}, value) }
	if c := v.Certificate; c != nil {
		line("serial", cell{text: c.Serial})
		line("issuer", cell{text: c.Issuer})
		for _, a := range v.Intermediates {
			line("by way of", cell{text: a.Subject + ", until " + when(a.NotAfter, now)})
		}
		line("valid from", cell{text: when(c.NotBefore, now)})
		line("valid until", moment(c.NotAfter, now))
		if !c.Renewal.IsZero() {
			line("renewed", cell{text: when(c.Renewal, now)})
		}
	}
	line("signed by", cell{text: v.ControlPlane})
	if v.Trouble != "" {
		line("trouble", cell{v.Trouble, red})
	}
	title := "Certificate"
	if v.Certificate == nil {
		title = "No certificate yet"
	}
	return p.in(bold, title) + "\n" + t.String(p)
}

// moment formats an expiry, in red if it has passed.
func moment(t, now time.Time) cell {
	if t.Before(now) {
		return cell{when(t, now), red}
	}
	return cell{text: when(t, now)}
}

func renderRoots(v identityView, now time.Time, p paint) string {
	var t table
	for _, root := range v.Roots {
		t.block(plain(""), []cell{{text: root.Subject}, {"sha256 " + root.Fingerprint, dim}}, []cell{untilCell(root, now)})
	}
	return p.in(bold, "Trusts") + "\n" + t.String(p)
}

func untilCell(a agentapi.Authority, now time.Time) cell {
	c := moment(a.NotAfter, now)
	c.text = "until " + c.text
	return c
}

var modeTexts = map[string]string{
	string(config.Strict):     "mTLS of the mesh alone",
	string(config.Permissive): "mTLS of the mesh, and plain text",
	notCaptured:               "everything, because the sidecar does not see it",
}

func renderTakes(v identityView, p paint) string {
	var t table
	t.row(cell{}, cell{"PORT", dim}, cell{"MODE", dim}, cell{"TAKES", dim}, cell{"SAID BY", dim})
	for _, takes := range v.Takes {
		port := "others"
		if takes.Port != 0 {
			port = strings.TrimSpace(fmt.Sprint(takes.Port, " ", takes.Name))
		}
		text := cell{text: modeTexts[takes.Mode]}
		if takes.OpenPlain > 0 {
			text = cell{fmt.Sprintf("%s, but %s in plain text still open", text.text, plural(int(takes.OpenPlain), "connection")), red}
		}
		t.row(cell{}, cell{text: port}, cell{text: takes.Mode}, text, cell{takes.SaidBy, dim})
	}
	return p.in(bold, "Takes") + "\n" + t.String(p)
}

func renderPodPlain(v podPlainView, now time.Time, p paint) string {
	title := p.in(bold, "In plain text") + "  since " + when(v.Since, now) + "\n"
	if len(v.Callers) == 0 {
		return title + "  no callers\n"
	}
	var t table
	t.row(cell{}, cell{"CALLER", dim}, cell{"ADDRESS", dim}, cell{"PORT", dim}, cell{"CALLS", dim}, cell{"LAST SEEN", dim}, cell{"WHY", dim})
	for _, c := range v.Callers {
		name := caller{kind: c.Kind, namespace: c.Namespace, name: c.Name}.text()
		if name == c.Source.String() {
			name = "-"
		}
		t.row(cell{}, cell{text: name}, cell{text: c.Source.String()}, cell{text: fmt.Sprint(c.Port)},
			cell{text: callsText(c.Connections, c.Requests, c.Live)}, cell{text: distance(c.Last, now)}, cell{c.Reason, dim})
	}
	text := title + t.String(p)
	if v.Forgotten > 0 {
		text += fmt.Sprintf("  the %d callers with the oldest calls were dropped\n", v.Forgotten)
	}
	return text
}
