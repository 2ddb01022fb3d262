package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// docs/transparency.md says what the table says.
func TestKubectlPage(t *testing.T) {
	golden.CheckSection(t, "../../docs/transparency.md", "kubectl", kubectlPage())
}

func kubectlPage() []byte {
	var b strings.Builder
	b.WriteString("| `kubectl` | says | with a sidecar |\n|---|---|---|\n")
	written := map[string]bool{}
	for _, c := range kubectlCommands {
		says := "nothing"
		if c.says != "" {
			says = "`" + c.says + "`"
		}
		if c.exit != 0 {
			says += fmt.Sprintf(", exit code %d", c.exit)
		}
		row := fmt.Sprintf("| `%s` | %s | %s |\n", c.command, says, c.seen())
		if !written[row] {
			b.WriteString(row)
		}
		written[row] = true
	}
	return []byte(b.String())
}

// seen is what differs, in words.
func (c kubectlCommand) seen() string {
	seen := "the same"
	if len(c.differs) > 0 {
		seen = ""
		for _, d := range c.differs {
			seen += "; **" + d.seen + "**"
		}
		seen = strings.TrimPrefix(seen, "; ")
	}
	if c.slower != "" {
		seen += ", later: " + c.slower
	}
	return seen
}
