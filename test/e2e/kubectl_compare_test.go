package e2e

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"
)

// problems are what is not as the table says. Without the mesh there are no differences.
func (c kubectlCommand) problems(without, with kubectlOutcome, meshed bool) []string {
	var problems []string
	problem := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !strings.Contains(without.out, c.says) || c.says == "" && without.out != "" || without.exit != c.exit {
		problem("exit code %d, want %d, with %q in:\n%s", without.exit, c.exit, c.says, without.out)
	}
	want := kubectlOutcome{out: without.out, exit: without.exit}
	if meshed {
		want = c.withSidecar(without, problem)
	}
	if with.out != want.out || with.exit != want.exit {
		problem("exit code %d with a sidecar, want %d. It printed\n%s\nwant\n%s\nwithout a sidecar\n%s", with.exit, want.exit, with.out, want.out, without.out)
	}
	if allowed := 2*without.took + c.longer + kubectlSlack; with.took > allowed {
		problem("took %s with a sidecar and %s without, want at most %s", with.took, without.took, allowed)
	}
	return problems
}

// withSidecar is what has to come out with a sidecar. An entry of the table that changes nothing is a problem.
func (c kubectlCommand) withSidecar(without kubectlOutcome, problem func(string, ...any)) kubectlOutcome {
	want := without
	for _, d := range c.differs {
		want.exit += d.exit
		for i := 0; i < len(d.instead); i += 2 {
			changed := regexp.MustCompile(d.instead[i]).ReplaceAllString(want.out, d.instead[i+1])
			if changed == want.out {
				problem("the table says that %q differs with a sidecar, which is not in:\n%s", d.instead[i], want.out)
			}
			want.out = changed
		}
	}
	return want
}

// kubectlSlack is what a command may take longer in any case: two are given at a time, and where the machine is busy both
// take longer, which is why the comparison is rough.
const kubectlSlack = 3 * time.Second

// noise is what differs between two namespaces, and between two runs, in what kubectl prints.
var noise = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`already (un)?cordoned`), "${1}cordoned"},                                               // the node is one for both
	{regexp.MustCompile(`(?mi)^waiting for .*\n`), ""},                                                          // how often a rollout was looked at
	{regexp.MustCompile(`-[bcdfghjklmnpqrstvwxz2456789]{6,10}(-[bcdfghjklmnpqrstvwxz2456789]{5})?\b`), "-HASH"}, // of what a controller has made
	{regexp.MustCompile(`\b\d+ \((\d+[smh])+ ago\)`), "SOME"},                                                   // restarts
	{regexp.MustCompile(`\b(\d+[smh])+\b`), "AGE"},
	{regexp.MustCompile(`\b\d+\.\d+\.\d+\.\d+\b`), "ADDRESS"},
	{regexp.MustCompile(`"(Elapsed|time)":[^,}]*`), `"$1":TIME`},
	{regexp.MustCompile(`\d{4}/\d\d/\d\d \d\d:\d\d:\d\d`), "TIME"},
	{regexp.MustCompile(`(?s)Please review the fields above.*`), ""}, // advice
	{regexp.MustCompile(`[ \t]+`), " "},                              // columns
}

func normalised(out, namespace, node string) string {
	out = strings.ReplaceAll(strings.ReplaceAll(out, namespace, "NAMESPACE"), node, "NODE")
	for _, n := range noise {
		out = n.pattern.ReplaceAllString(out, n.name)
	}
	return out
}

// The comparison sees what it is for.
func TestKubectlProblems(t *testing.T) {
	table := func() kubectlCommand {
		return kubectlCommand{says: "READY 1/1", longer: time.Second, differs: []kubectlDifference{{instead: []string{"1/1", "2/2"}, exit: 1}}}
	}
	without, with := kubectlOutcome{out: "pod READY 1/1", took: time.Second}, kubectlOutcome{out: "pod READY 2/2", exit: 1, took: 2 * time.Second}
	for name, tt := range map[string]struct {
		change   func(c *kubectlCommand, without, with *kubectlOutcome)
		problems int
	}{
		"as the table says":           {func(*kubectlCommand, *kubectlOutcome, *kubectlOutcome) {}, 0},
		"a difference more":           {func(_ *kubectlCommand, _, with *kubectlOutcome) { with.out += " Warning" }, 1},
		"another exit code":           {func(_ *kubectlCommand, _, with *kubectlOutcome) { with.exit = 0 }, 1},
		"a known difference is gone":  {func(_ *kubectlCommand, without, with *kubectlOutcome) { *with = *without }, 1},
		"nothing could differ so":     {func(c *kubectlCommand, _, _ *kubectlOutcome) { c.differs[0].instead[0] = "3/3" }, 2},
		"another text without":        {func(c *kubectlCommand, _, _ *kubectlOutcome) { c.says = "NAME" }, 1},
		"a text where there was none": {func(c *kubectlCommand, _, _ *kubectlOutcome) { c.says = "" }, 1},
		"another exit code without":   {func(_ *kubectlCommand, without, with *kubectlOutcome) { without.exit++; with.exit++ }, 1},
		"longer than the table allows": {func(_ *kubectlCommand, _, with *kubectlOutcome) {
			with.took += time.Second + kubectlSlack + time.Millisecond
		}, 1},
	} {
		c, without, with := table(), without, with
		tt.change(&c, &without, &with)
		if got := c.problems(without, with, true); len(got) != tt.problems {
			t.Errorf("%s: %d problems, want %d: %q", name, len(got), tt.problems, got)
		}
	}
	if got := table().problems(without, without, false); len(got) > 0 {
		t.Errorf("without the mesh: %q", got)
	}
}
