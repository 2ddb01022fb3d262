package ctl

import (
	"fmt"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
)

// someNames is the number of pods or addresses that a line names.
const someNames = 3

// renderPlain writes a view for people.
func renderPlain(v plainView, now time.Time, p paint) string {
	var parts []string
	for _, n := range v.Namespaces {
		if t := callsTable(v, n.Namespace, now); len(t.rows) > 0 {
			parts = append(parts, p.in(bold, "Namespace "+n.Namespace)+"\n"+t.String(p))
		}
	}
	if len(v.WithoutIdentity) > 0 {
		var t table
		for _, w := range v.WithoutIdentity {
			t.row(plain("", w.Namespace, w.Workload, some(w.Pods))...)
		}
		parts = append(parts, p.in(bold, "Sidecars without identity")+"  injected before the mesh had identities: no mTLS from or to these pods until you recreate them\n"+t.String(p))
	}
	if len(v.Unanswered) > 0 {
		var t table
		for _, m := range v.Unanswered {
			t.row(plain("", m.Namespace+"/"+m.Pod, m.Problem)...)
		}
		parts = append(parts, p.in(bold, "Not known")+"\n"+t.String(p))
	}
	parts = append(parts, renderStrict(v, now, p))
	if len(v.Notes) > 0 {
		parts = append(parts, renderNotes(v.Notes, p))
	}
	return strings.Join(parts, "\n")
}

func callsTable(v plainView, namespace string, now time.Time) table {
	var t table
	for _, c := range v.Callers {
		if c.To.Namespace != namespace {
			continue
		}
		if len(t.rows) == 0 {
			t.row(cell{}, cell{"CALLED", dim}, cell{"PORT", dim}, cell{"CALLER", dim}, cell{"CALLS", dim}, cell{"LAST SEEN", dim}, cell{"WHY", dim})
		}
		port := fmt.Sprint(c.To.Port)
		if c.To.Mode == config.Strict {
			port += " (strict)" // seen, or begun, before it was
		}
		t.row(cell{}, cell{text: c.To.Workload}, cell{text: port}, cell{text: c.From.text()},
			cell{text: callsText(c.Connections, c.Requests, c.Open)}, cell{text: distance(c.Last, now)}, cell{c.From.Reason, dim})
	}
	return t
}

func callsText(connections, requests, open uint64) string {
	var out []string
	if connections > 0 {
		out = append(out, plural(int(connections), "connection"))
	}
	if requests > 0 {
		out = append(out, plural(int(requests), "request"))
	}
	if open > 0 {
		out = append(out, fmt.Sprintf("%d open", open))
	}
	return strings.Join(out, ", ")
}

func (s plainSource) text() string {
	names := some(s.Names)
	switch s.Kind {
	case callerPod:
		return s.Namespace + "/" + names
	case callerNode:
		return "node " + names
	}
	return names
}

func some(names []string) string {
	if len(names) <= someNames {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:someNames], ", "), len(names)-someNames)
}

var verdictTexts = map[verdict]cell{
	strictSafe: {"safe", green}, strictUnsafe: {"not safe", red}, strictUnknown: {"not known", yellow},
}

// renderStrict writes the part about strict mTLS.
func renderStrict(v plainView, now time.Time, p paint) string {
	var t table
	for _, n := range v.Namespaces {
		t.block(plain(""), plain(n.Namespace), []cell{verdictTexts[n.Strict]}, plain(append([]string{n.why(now)}, v.uncapturedIn(n.Namespace)...)...))
	}
	return p.in(bold, "Strict mTLS") + "\n" + t.String(p)
}

func (s strictView) why(now time.Time) string {
	switch {
	case s.Refused > 0:
		return plural(s.Refused, "caller") + " would be refused"
	case s.Open > 0:
		return plural(int(s.Open), "connection") + " in plain text from before strict still open: ends within mtls.drainTime, or at its next byte if the sidecar is older"
	case s.Blind > 0:
		return plural(s.Blind, "pod") + " with a sidecar without identity, which reports no callers"
	case s.Asked < s.Pods:
		return fmt.Sprintf("%d of %s could not be asked", s.Pods-s.Asked, plural(s.Pods, "pod"))
	case s.Forgotten > 0:
		return fmt.Sprintf("there were more callers than sidecars remember: %d were dropped", s.Forgotten)
	}
	if s.Looked < s.Wanted {
		return fmt.Sprintf("no callers in plain text, but a sidecar has watched for only %s of the required %s (--for)", seconds(s.Looked), seconds(s.Wanted))
	}
	text := "no callers in plain text"
	if s.Already > 0 {
		text = "no callers in plain text at non-strict ports"
	}
	if s.Since != nil {
		text += " since " + when(*s.Since, now)
	}
	return text
}

func seconds(n int64) string { return span(time.Duration(n) * time.Second) }

func (v plainView) uncapturedIn(namespace string) []string {
	var out []string
	for _, w := range v.Uncaptured {
		if w.Namespace == namespace {
			out = append(out, fmt.Sprintf("not captured, so not checked and not strict: %s of %s", numbers(w.Ports), w.Workload))
		}
	}
	return out
}

func numbers(ports []uint16) string {
	out := make([]string, len(ports))
	for i, port := range ports {
		out[i] = fmt.Sprint(port)
	}
	return strings.Join(out, ", ")
}

func renderNotes(notes []string, p paint) string {
	var b strings.Builder
	for _, n := range notes {
		b.WriteString(p.in(dim, "note: "+n) + "\n")
	}
	return b.String()
}
