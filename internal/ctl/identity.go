package ctl

import (
	"context"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
)

type identityOptions struct {
	clusterFlags
	connect    connector
	agents     agentConnector
	now        func() time.Time
	meshConfig string
	system     string
	output     string
}

func newIdentityCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := identityOptions{connect: connect, agents: agents, now: now}
	cmd := &cobra.Command{
		Use:   "identity POD[.NAMESPACE] | KIND/NAME[.NAMESPACE]",
		Short: "Show a pod's identity, the roots it trusts, and its callers",
		Long: `Show a pod's identity: its SPIFFE ID, its certificate with issuer and end, the roots that it trusts, which
connections each of its ports takes and where that is said, who may call it, and who calls it in plain text.

Certificate, roots and callers are what the pod's sidecar says, on the pod's loopback alone: Kubernetes must allow
you to get and create pods/portforward. Where it cannot be asked, the rest is shown with the reason. A private key
is never shown.

Of a workload (deploy/cart, sts/cart, ds/cart, …) or a Service (svc/cart) one pod that runs is shown.`,
		Example: `  # Pod cart-7d9f in namespace shop
  mizzenctl identity cart-7d9f.shop

  # Some pod of a Deployment
  mizzenctl identity deploy/cart -n shop

  # When does the certificate end?
  mizzenctl identity cart-7d9f.shop -o json | jq -r .certificate.notAfter`,
		Args: oneArg("a pod, such as cart-7d9f.shop or deploy/cart"),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args[0], cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.add(flags, "namespace of the pod")
	addMeshFlags(flags, &o.meshConfig, &o.system)
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func (o *identityOptions) run(ctx context.Context, name string, stdout, stderr io.Writer) error {
	if err := checkOutput(o.output); err != nil {
		return err
	}
	t, err := o.parseTarget(name, "Pod", o.defaultNamespace)
	if err != nil {
		return err
	}
	c, err := o.connect(&o.clusterFlags)
	if err != nil {
		return err
	}
	key, err := onePod(ctx, c, t, stderr)
	if err != nil {
		return err
	}
	reader := clusterReader{Client: c, system: o.system, meshConfig: o.meshConfig}
	inv, err := reader.inventory(ctx, key.Namespace)
	if err != nil {
		return err
	}
	p, err := inv.pod(key)
	if err != nil {
		return err
	}
	v, now := inv.identityOf(p), o.now()
	if p.Meshed {
		if v.Policies, err = reader.authorization(ctx, p); err != nil {
			v.PoliciesUnknown = true
			v.miss("its allowed callers", err)
		}
		if err := o.ask(ctx, &v, inv, p); err != nil {
			return err
		}
	}
	return write(stdout, o.output, v, func(p paint) string { return renderIdentity(v, now, p) })
}

// ask adds the sidecar's answer to the view, or the error.
func (o *identityOptions) ask(ctx context.Context, v *identityView, inv *inventory, p *podInfo) error {
	if !p.running() {
		v.miss("its sidecar's answer", fmt.Errorf("the pod is %s", strings.ToLower(string(p.source.Status.Phase))))
		return nil
	}
	a, err := o.agents(&o.clusterFlags)
	if err != nil {
		return err
	}
	var id agentapi.Identity
	if err := a.ask(ctx, p.Key, agentapi.IdentityPath, &id); err != nil {
		v.miss("its sidecar's answer", err)
		return ctx.Err()
	}
	v.setIdentity(printableIdentity(id), inv)
	var h heard
	if err := a.ask(ctx, p.Key, agentapi.PlainTextPath, &h.PlainText); err != nil {
		v.miss("callers in plain text", err)
	} else {
		v.setPlain(inv, p, h)
	}
	return ctx.Err()
}
