package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
)

type plaintextOptions struct{ lookOptions }

// defaultLook is how long sidecars must have watched before strict counts as safe.
const defaultLook = time.Hour

// exitNotSafe is the exit code of plaintext if strict is not safe, or not known to be.
const exitNotSafe = 2

// ExitError is an error with an exit code of its own; others have 1.
type ExitError struct {
	Code int
	text string
}

func (e *ExitError) Error() string { return e.text }

func newPlaintextCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := plaintextOptions{lookOptions{connect: connect, agents: agents, now: now}}
	cmd := &cobra.Command{
		Use:   "plaintext [-n NAMESPACE]",
		Short: "List callers in plain text, and where strict mTLS is safe",
		Long: `List the calls that reach pods of the mesh without mTLS, and whether they could be made strict: which workload
is called at which port, by whom, why it is not mTLS, how often, and when last. TLS of an application's own
counts as plain text here: strict mTLS refuses it, too.

Each sidecar remembers who has called its pod, from its start on; whoever keeps a connection is seen each
minute, and counts as open. So the list is as old as the pods are: let a day or a week go by before you trust it
with callers that come once a day or a week. After you have mended callers, --since leaves out what was before.

At the end stands for each namespace whether strict is safe there, and how long its sidecars have looked. It is not
called safe before all of them have looked for an hour, or what --for says. Where it is strict already, connections
from before that are still open in plain text make it not safe. What sidecars cannot see is listed: ports
that are excluded from capture, pods whose sidecar has no identity, and pods that could not be asked.

Kubernetes must allow you to list pods, namespaces and nodes, to get the ConfigMap mizzen-mesh of the control
plane, and to get and create pods/portforward: the sidecars tell it on their pods' loopback alone.

The exit code is 0 if strict is safe in all namespaces that were looked at, 2 if it is not, not all is known or
sidecars have not looked for long enough, and 1 if nothing could be found out.`,
		Example: `  # Everywhere
  mizzenctl plaintext

  # Who still calls namespace shop, since the callers were mended an hour ago?
  mizzenctl plaintext -n shop --since 1h

  # Make it strict if there was no caller in plain text for a day
  mizzenctl plaintext -n shop --for 24h && kubectl annotate namespace shop mizzen.dev/mtls=strict`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if o.since > 0 && !cmd.Flags().Changed("for") {
				o.lookedFor = min(o.lookedFor, o.since)
			}
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd.Flags(), "namespace of the called pods (default: all)",
		"how long sidecars must have watched before strict counts as safe; a shorter --since shortens it")
	return cmd
}

func (o *plaintextOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	_, a, inv, err := o.open(ctx)
	if err != nil {
		return err
	}
	pods, err := inv.targets(o.namespace)
	if err != nil {
		return err
	}
	var askable []*podInfo
	for _, p := range pods {
		if p.Meshed && p.running() {
			askable = append(askable, p)
		}
	}
	l := o.look()
	v := inv.plain(pods, askAll(ctx, a, askable, stderr), l)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(stdout, o.output, v, func(p paint) string { return renderPlain(v, l.now, p) }); err != nil {
		return err
	}
	return v.exit()
}

// targets returns the pods with a sidecar.
func (i *inventory) targets(namespace string) ([]*podInfo, error) {
	var out []*podInfo
	for _, p := range i.pods {
		if p.injected && !p.ended() && (namespace == "" || p.Namespace == namespace) {
			out = append(out, p)
		}
	}
	switch {
	case len(out) > 0:
		return out, nil
	case namespace != "":
		return nil, fmt.Errorf("namespace %s has no pod with a sidecar", namespace)
	default:
		return nil, errors.New("no pod has a sidecar")
	}
}

func (v plainView) exit() error {
	count, open := map[verdict]int{}, 0
	for _, n := range v.Namespaces {
		if n.Refused == 0 && n.Open > 0 {
			open++ // unsafe for another reason
		} else {
			count[n.Strict]++
		}
	}
	all := plural(len(v.Namespaces), "namespace")
	switch {
	case count[strictUnsafe] > 0:
		return &ExitError{exitNotSafe, fmt.Sprintf("strict mTLS would refuse callers in %d of %s", count[strictUnsafe], all)}
	case open > 0:
		return &ExitError{exitNotSafe, fmt.Sprintf("connections in plain text from before strict are still open in %d of %s", open, all)}
	case count[strictUnknown] > 0:
		return &ExitError{exitNotSafe, fmt.Sprintf("the result is incomplete for %d of %s", count[strictUnknown], all)}
	}
	return nil
}
