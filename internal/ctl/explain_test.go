package ctl

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/golden"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

const header = `mizzen-outbound; error=destination_unavailable; details="no-endpoint"`

func TestExplain(t *testing.T) {
	for name, c := range map[string]struct {
		args    []string
		want    []string
		wantErr string
	}{
		"a reason":      {args: []string{"connect-timeout"}, want: []string{"connect-timeout\n", "traffic.connectTimeout", "the caller's sidecar or the server's sidecar", "connection_timeout", "- "}},
		"a header":      {args: []string{header}, want: []string{"no-endpoint\n"}},
		"of one side":   {args: []string{"denied"}, want: []string{"said by   the server's sidecar\n"}},
		"all":           {want: []string{"no-endpoint  ", "other  "}},
		"all as json":   {args: []string{"-o", "json"}, want: []string{`"reason": "no-endpoint"`, `"inbound"`}},
		"none":          {args: []string{"no-endpiont"}, wantErr: `"no-endpiont": no such reason; want one of bad-answer, `},
		"terminal":      {args: []string{"\x1b[2J"}, wantErr: `"?[2J": no such reason`},
		"two":           {args: []string{"denied", "other"}, wantErr: `"other": want one reason`},
		"output format": {args: []string{"-o", "text"}, wantErr: `--output: "text": want table, json or yaml`},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			cmd := newCommand(noCluster, noAgents, goldenNow)
			cmd.SetArgs(append([]string{"explain"}, c.args...))
			cmd.SetOut(&out)
			err := cmd.Execute()
			if (err == nil) != (c.wantErr == "") || err != nil && !strings.Contains(err.Error(), c.wantErr) {
				t.Errorf("got error %v", err)
			}
			for _, text := range c.want {
				if !strings.Contains(out.String(), text) {
					t.Errorf("%q is not in\n%s", text, out.String())
				}
			}
		})
	}
}

// docs/troubleshooting.md has what explain says. `go test ./internal/ctl -run TestTroubleshooting -update` writes it.
func TestTroubleshooting(t *testing.T) {
	var b strings.Builder
	for _, r := range envoy.Reasons {
		if len(help[r.Name]) == 0 {
			t.Errorf("nothing helps with %s", r.Name)
		}
		fmt.Fprintf(&b, "\n### %s\n\n%s\n\n", r.Name, r.Doc)
		for _, h := range help[r.Name] {
			fmt.Fprintf(&b, "- %s\n", h)
		}
	}
	if len(help) != len(envoy.Reasons) {
		t.Errorf("help for %d reasons, there are %d", len(help), len(envoy.Reasons))
	}
	golden.CheckSection(t, "../../docs/troubleshooting.md", "reasons", []byte(b.String()))
}
