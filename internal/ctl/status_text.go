package ctl

import (
	"fmt"
	"strings"
)

// detailsShown of each check are in the table; -o json has all.
const detailsShown = 10

var stateCells = map[string]cell{
	stateOK: {"✓", green}, stateWarning: {"!", yellow}, stateUnknown: {"?", yellow}, stateError: {"✗", red},
}

// renderStatus has a line for each check, and then what is not well, the worst first.
func renderStatus(v statusView, p paint) string {
	var t table
	for _, c := range v.Checks {
		t.row(stateCells[c.State], cell{c.Name, bold}, cell{text: printable(c.Text)})
	}
	var b strings.Builder
	b.WriteString(t.String(p))
	for i := len(states) - 1; i > 0; i-- {
		for _, c := range v.Checks {
			b.WriteString(renderDetails(c, states[i], p))
		}
	}
	return b.String()
}

// renderDetails has the details of a check that have this state.
func renderDetails(c statusCheck, state string, p paint) string {
	var b strings.Builder
	shown, left := 0, 0
	for _, d := range c.Details {
		if d.State != state {
			continue
		}
		if shown == detailsShown {
			left++
			continue
		}
		shown++
		mark := stateCells[state]
		fmt.Fprintf(&b, "\n%s %s: %s\n", p.in(mark.colour, mark.text), p.in(bold, printable(d.Object)), printable(d.Text))
		if d.Help != "" {
			fmt.Fprintf(&b, "  %s\n", p.in(dim, printable(d.Help)))
		}
	}
	if left > 0 {
		fmt.Fprintf(&b, "\n  and %d more of %s: -o json has all\n", left, c.Name)
	}
	return b.String()
}
