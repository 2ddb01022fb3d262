package chaos

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/internal/figures"
)

// tally is what came of the calls of a client.
type tally struct {
	caller
	kind, target string
	calls        int
	failures     []failure
	// lost is the number of failures of which nothing more is known.
	lost          int
	p50, p99, max time.Duration
}

// check is one thing that must hold.
type check struct {
	what, got, want string
	ok              bool
}

// Report is what came of a run.
type Report struct {
	options    Options
	impossible []string // faults, with the reason
	began      time.Time
	tallies    []tally
	events     []*event
	checks     []check
}

// shown is how many failures without an excuse are described.
const shown = 50

// afterwards is how long a fault may have been over when a failure mentions it.
const afterwards = 10 * time.Second

// verdicts are all failures with their excuses.
func (r *Report) verdicts() []verdict {
	var all []failure
	for _, t := range r.tallies {
		all = append(all, t.failures...)
	}
	return judge(all, r.events)
}

// all are the checks of the run, and those of the calls.
func (r *Report) all() []check {
	unexcused, lost, calls := 0, 0, 0
	for _, v := range r.verdicts() {
		if v.fault == nil {
			unexcused++
		}
	}
	for _, t := range r.tallies {
		lost, calls = lost+t.lost, calls+t.calls
	}
	broken := 0
	for _, e := range r.events {
		if e.err != nil {
			broken++
		}
	}
	return append([]check{
		{"failed calls that no fault excuses", fmt.Sprintf("%d of %d", unexcused+lost, calls), "0", unexcused+lost == 0},
		{"faults from which something did not recover", fmt.Sprintf("%d of %d", broken, len(r.events)), "0", broken == 0},
		{"faults that were done", strconv.Itoa(len(r.events)), "1 or more", len(r.events) > 0},
	}, r.checks...)
}

// Violations are the checks that do not hold, one a line.
func (r *Report) Violations() []string {
	var out []string
	for _, c := range r.all() {
		if !c.ok {
			out = append(out, fmt.Sprintf("%s: %s, want %s", c.what, c.got, c.want))
		}
	}
	return out
}

// Figures gives what was checked, each with what was found and what is wanted.
func (r *Report) Figures(f func(what, got, want string)) {
	for _, c := range r.all() {
		f(c.what, c.got, c.want)
	}
}

// String is the report: what no fault excuses, calls, faults, checks, and how to do the same again.
func (r *Report) String() string {
	verdicts := r.verdicts()
	var b strings.Builder
	r.unexcused(&b, verdicts)
	b.WriteString("\n" + r.calls(verdicts) + "\n" + r.faults(verdicts) + "\n" + r.checked())
	for _, why := range r.impossible {
		fmt.Fprintf(&b, "not possible here: %s\n", why)
	}
	fmt.Fprintf(&b, "\nthe same faults in the same order: %s\n", r.command())
	return b.String()
}

// command does the same again.
func (r *Report) command() string {
	s := fmt.Sprintf("go run ./test/chaos -seed %d -duration %s -rate %g", r.options.Seed, r.options.Duration, r.options.Rate)
	if r.options.Quick {
		s += " -quick"
	}
	if len(r.options.Only) > 0 {
		s += " -only " + strings.Join(r.options.Only, ",")
	}
	return s
}

// unexcused describes the failures that no fault excuses, each with what went on at the time.
func (r *Report) unexcused(b *strings.Builder, verdicts []verdict) {
	n := 0
	for _, v := range verdicts {
		if v.fault != nil {
			continue
		}
		if n++; n > shown {
			continue
		}
		fmt.Fprintf(b, "%s %s: %s %s from pod %s, after %s: %s\n", r.since(v.At), v.name, v.kind, v.target, v.pod, short(v.Elapsed), v.Error)
		faults := near(r.events, v.Failure, afterwards)
		if len(faults) == 0 {
			fmt.Fprintf(b, "         no fault went on, nor had for %s\n", afterwards)
		}
		for _, e := range faults {
			fmt.Fprintf(b, "         %s\n", r.beside(e, v.Failure))
		}
	}
	if n > shown {
		fmt.Fprintf(b, "and %d more\n", n-shown)
	}
}

// beside says how a call lay to a fault.
func (r *Report) beside(e *event, f api.Failure) string {
	s := fmt.Sprintf("%s %s began at %s: the call began %s and ended %s after", e.name, e.target, r.since(e.begun), short(f.At.Sub(e.begun)), short(f.At.Add(f.Elapsed).Sub(e.begun)))
	for _, m := range []struct {
		name string
		at   time.Time
	}{{"done", e.done}, {"undone", e.undone}, {"settled", e.settled}} {
		if !m.at.IsZero() {
			s += fmt.Sprintf("; %s after %s", m.name, short(m.at.Sub(e.begun)))
		}
	}
	return s
}

func (r *Report) calls(verdicts []verdict) string {
	excused := map[string]int{}
	for _, v := range verdicts {
		if v.fault != nil {
			excused[v.name]++
		}
	}
	var rows [][]string
	for _, t := range r.tallies {
		rows = append(rows, []string{
			t.name, strconv.Itoa(t.calls), strconv.Itoa(len(t.failures) + t.lost), strconv.Itoa(excused[t.name]), short(t.p50), short(t.p99), short(t.max),
		})
	}
	return figures.Table([]string{"calls", "made", "failed", "excused", "p50", "p99", "max"}, rows)
}

func (r *Report) faults(verdicts []verdict) string {
	excused := map[*event]int{}
	for _, v := range verdicts {
		if v.fault != nil {
			excused[v.fault]++
		}
	}
	var rows [][]string
	for _, e := range r.events {
		text := ""
		if e.err != nil {
			text = e.err.Error()
		}
		rows = append(rows, []string{r.since(e.begun), e.name, e.target, short(e.end().Sub(e.begun)), strconv.Itoa(excused[e]), text})
	}
	return figures.Table([]string{"at", "fault", "of", "settled after", "excused", "what went wrong"}, rows)
}

func (r *Report) checked() string {
	var rows [][]string
	for _, c := range r.all() {
		mark := "✓"
		if !c.ok {
			mark = "✗"
		}
		rows = append(rows, []string{mark, c.what, c.got, c.want})
	}
	return figures.Table([]string{"", "checked", "found", "wanted"}, rows)
}

// since is a moment of the run.
func (r *Report) since(t time.Time) string { return fmt.Sprintf("[%6.1fs]", t.Sub(r.began).Seconds()) }

func short(d time.Duration) string {
	switch {
	case d.Abs() < 10*time.Millisecond:
		return d.Round(10 * time.Microsecond).String()
	case d.Abs() < time.Second:
		return d.Round(time.Millisecond).String()
	default:
		return d.Round(10 * time.Millisecond).String()
	}
}
