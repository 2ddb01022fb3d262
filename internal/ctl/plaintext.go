package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
)

type plaintextOptions struct {
	clusterFlags
	connect    connector
	agents     agentConnector
	now        func() time.Time
	meshConfig string
	system     string
	since      time.Duration
	output     string
}

// exitNotSafe is the exit code of plaintext where strict is not safe, or not known to be.
const exitNotSafe = 2

// ExitError is an error with an exit code of its own; others have 1.
type ExitError struct {
	Code int
	text string
}

func (e *ExitError) Error() string { return e.text }

func newPlaintextCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := plaintextOptions{connect: connect, agents: agents, now: now}
	cmd := &cobra.Command{
		Use:   "plaintext [-n NAMESPACE]",
		Short: "List who calls the mesh in plain text, and whether strict mTLS is safe",
		Long: `List the calls that reach pods of the mesh without mTLS, and whether they could be made strict: which workload
is called at which port, by whom, why it is not mTLS, how often, and when last. TLS of an application's own
counts as plain text here: strict mTLS refuses it, too.

Each sidecar remembers who has called its pod, from its start on; whoever keeps a connection is seen each
minute. So the list is as old as the pods are: let a day or a week go by before you trust it with callers that
come once a day or a week. After you have mended callers, --since leaves out what was before.

At the end stands for each namespace whether strict is safe there. What sidecars cannot see is listed: ports
that are excluded from capture, pods whose sidecar has no identity, and pods that could not be asked.

Kubernetes must allow you to list pods, namespaces and nodes, to get the ConfigMap mizzen-mesh of the control
plane, and to get and create pods/portforward: the sidecars tell it on their pods' loopback alone.

The exit code is 0 if strict is safe in all namespaces that were looked at, 2 if it is not or not all is known, and
1 if nothing could be found out.`,
		Example: `  # Everywhere
  mizzenctl plaintext

  # Who still calls namespace shop, since the callers were mended an hour ago?
  mizzenctl plaintext -n shop --since 1h

  # Make it strict as soon as it is safe
  mizzenctl plaintext -n shop && kubectl annotate namespace shop mizzen.dev/mtls=strict`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of the pods that are called (default: all)")
	flags.DurationVar(&o.since, "since", 0, "leave out callers that were not seen within this time, such as 1h (default: none)")
	addMeshFlags(flags, &o.meshConfig, &o.system)
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *plaintextOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	switch {
	case !slices.Contains(outputs, o.output):
		return fmt.Errorf("--output: %q: want %s", o.output, wantOutput)
	case o.since < 0:
		return fmt.Errorf("--since: %s: want a positive duration, such as 1h", o.since)
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return err
	}
	a, err := o.agents(&o.clusterFlags)
	if err != nil {
		return err
	}
	inv, err := clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}.inventory(ctx, o.namespace)
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
	now, after := o.now(), time.Time{}
	if o.since > 0 {
		after = now.Add(-o.since)
	}
	v := inv.plain(pods, askAll(ctx, a, askable, stderr), after)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(stdout, o.output, v, func(p paint) string { return renderPlain(v, now, p) }); err != nil {
		return err
	}
	return v.exit()
}

// targets are the pods with a sidecar.
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
	count := map[verdict]int{}
	for _, n := range v.Namespaces {
		count[n.Strict]++
	}
	all := plural(len(v.Namespaces), "namespace")
	switch {
	case count[strictUnsafe] > 0:
		return &ExitError{exitNotSafe, fmt.Sprintf("strict mTLS would refuse callers in %d of %s", count[strictUnsafe], all)}
	case count[strictUnknown] > 0:
		return &ExitError{exitNotSafe, fmt.Sprintf("not all is known of %d of %s", count[strictUnknown], all)}
	}
	return nil
}
