package ctl

import (
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

type explainOptions struct{ output string }

// explanation is a reason for which a sidecar or a gateway answers itself, and the format of -o json and yaml.
type explanation struct {
	Reason string `json:"reason"`
	// Sides are those whose proxies answer with it: outbound, inbound.
	Sides []string `json:"sides"`
	// Error is the name of RFC 9209.
	Error string `json:"error,omitempty"`
	// Text is the body or the gRPC message, with Envoy's variables.
	Text string `json:"text,omitempty"`
	// What has happened, and what helps.
	What string   `json:"what"`
	Help []string `json:"help,omitempty"`
}

func newExplainCommand() *cobra.Command {
	o := explainOptions{}
	cmd := &cobra.Command{
		Use:   "explain [REASON|HEADER]",
		Short: "Say what the reason of a failed call means, and what to do",
		Long: `Say what the reason means for which a sidecar or a gateway answered a call itself, and what to do.

The reason is in the header proxy-status of the answer (in the metadata, for gRPC), in the label reason of the metric
mizzen_answers_total, and in the log of a pod with the annotation mizzen.dev/log-answers. The whole header is taken as well.

Without a reason all are listed. No cluster is needed.`,
		Example: `  mizzenctl explain connect-timeout

  # What curl -i has shown
  mizzenctl explain 'mizzen-outbound; error=destination_unavailable; details="no-endpoint"'`,
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) > 1 {
				return fmt.Errorf("%q: want one reason", args[1])
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error { return o.run(cmd.OutOrStdout(), args) },
	}
	cmd.Flags().StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *explainOptions) run(stdout io.Writer, args []string) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	if len(args) == 0 {
		var all []explanation
		for _, r := range envoy.Reasons {
			all = append(all, explained(r))
		}
		return write(stdout, o.output, all, func(p paint) string { return renderReasons(all, p) })
	}
	name := reasonIn(args[0])
	i := slices.IndexFunc(envoy.Reasons, func(r envoy.Reason) bool { return r.Name == name })
	if i < 0 {
		return unknownReason(name)
	}
	e := explained(envoy.Reasons[i])
	return write(stdout, o.output, e, func(p paint) string { return renderReason(e, p) })
}

// details is where the header has the reason.
var details = regexp.MustCompile(`details="([^"]*)"`)

// reasonIn returns the reason of a header, or the text itself.
func reasonIn(text string) string {
	if m := details.FindStringSubmatch(text); m != nil {
		return m[1]
	}
	return strings.TrimSpace(text)
}

func unknownReason(name string) error {
	names := make([]string, len(envoy.Reasons))
	for i, r := range envoy.Reasons {
		names[i] = r.Name
	}
	slices.Sort(names)
	return fmt.Errorf("%q: no such reason; want one of %s", printable(name), strings.Join(names, ", "))
}

func explained(r envoy.Reason) explanation {
	e := explanation{Reason: r.Name, Error: r.Error, Text: r.Text, What: r.Doc, Help: help[r.Name]}
	for _, s := range []envoy.Side{envoy.Outbound, envoy.Inbound} {
		if r.On(s) {
			e.Sides = append(e.Sides, string(s))
		}
	}
	return e
}

func renderReasons(all []explanation, p paint) string {
	var t table
	for _, e := range all {
		first, _, _ := strings.Cut(e.What, ". ")
		t.row(cell{e.Reason, bold}, cell{text: strings.TrimSuffix(first, ".")})
	}
	return t.String(p)
}

// sideTexts say whose proxy answers.
var sideTexts = map[string]string{"outbound": "the caller's sidecar", "inbound": "the server's sidecar"}

func renderReason(e explanation, p paint) string {
	var who []string
	for _, s := range e.Sides {
		who = append(who, sideTexts[s])
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s\n%s\n\n", p.in(bold, e.Reason), e.What)
	var t table
	t.row(cell{text: "said by"}, cell{text: strings.Join(who, " or ")})
	if e.Error != "" {
		t.row(cell{text: "RFC 9209"}, cell{text: e.Error})
	}
	b.WriteString(t.String(p))
	if len(e.Help) > 0 {
		fmt.Fprintf(&b, "\n%s\n", p.in(bold, "What to do"))
		for _, h := range e.Help {
			fmt.Fprintf(&b, "- %s\n", h)
		}
	}
	return b.String()
}
