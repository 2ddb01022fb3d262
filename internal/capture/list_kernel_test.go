package capture

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
	"testing"
)

// nft runs the nft command in the namespace.
func (n ns) nft(stdin string, args ...string) string {
	n.t.Helper()
	var out, said bytes.Buffer
	n.do(func() error {
		cmd := exec.Command("nft", args...)
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &said
		if err := cmd.Run(); err != nil {
			return fmt.Errorf("nft %s: %w\n%s\n%s", strings.Join(args, " "), err, said.String(), stdin)
		}
		return nil
	})
	return out.String()
}

// What nft shows of a pod's rules can be saved and loaded again, and is the same rules then, but for what loadable leaves out.
func TestListedRulesLoad(t *testing.T) {
	if _, err := exec.LookPath("nft"); err != nil {
		t.Skip("needs nft: ", err)
	}
	agentTwice := excluding()
	agentTwice.ExcludeInboundPorts = append(agentTwice.ExcludeInboundPorts, agentTwice.AgentPort)
	callers := agentTwice
	callers.CapturesOwnCalls, callers.PodAddresses = true, ownAddresses(true)
	for _, tt := range []struct {
		name     string
		settings Settings
		variant  Variant
	}{
		{"default", Default(), Full},
		{"plain", excluding(), Plain},
		{"as injected, with exclusions", agentTwice, Full},
		{"with identities", callers, Full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pod, _ := newPod(t)
			pod.do(func() error { return Apply(Rules(tt.settings, tt.variant)) })
			listed := loadable(pod.nft("", "list", "ruleset"))
			pod.nft("", "flush", "ruleset")
			pod.nft(listed, "-f", "-")
			if again := pod.nft("", "list", "ruleset"); again != listed {
				t.Errorf("loaded again the rules are\n%s\nwant\n%s", again, listed)
			}
			for line, count := range lines(listed) {
				if count > 1 {
					t.Errorf("%d times the rule: %s", count, line)
				}
			}
			pod.nft("", "flush", "ruleset")
			pod.nft(loadable(Rules(tt.settings, tt.variant).String()), "-f", "-")
			// The kernel shows a match of TCP flags by its bytes where we wrote them.
			if printed := pod.nft("", "list", "ruleset"); printed != listed && !tt.settings.CapturesOwnCalls {
				t.Errorf("what --dry-run prints loads as\n%s\nwant\n%s", printed, listed)
			}
		})
	}
}

// loadable leaves out the two rules that nft 1.0.6 shows and does not take: they fill a set of addresses and ports with
// what lies elsewhere in a packet, which to nft are numbers.
func loadable(ruleset string) string {
	var out strings.Builder
	for line := range strings.Lines(ruleset) {
		if !strings.Contains(line, "the agent names a connection that is to end") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// lines counts the rules of each chain by their text.
func lines(ruleset string) map[string]int {
	out := map[string]int{}
	chain := ""
	for line := range strings.Lines(ruleset) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "chain ") {
			chain = line
		}
		if strings.Contains(line, "comment") {
			out[chain+" "+line]++
		}
	}
	return out
}
