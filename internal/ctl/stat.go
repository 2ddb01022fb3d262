package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// statOptions are those of stat and top.
type statOptions struct {
	clusterFlags
	connect connector
	agents  agentConnector
	now     func() time.Time
	all     bool
	from    string
	window  time.Duration
	output  string
}

const (
	defaultWindow = 10 * time.Second
	// minWindow is the shortest time over which a rate says something.
	minWindow   = time.Second
	topInterval = 5 * time.Second
	// topRows are the calls that top shows.
	topRows = 20
)

const statRights = `Kubernetes must allow you to list pods, and to get and create pods/portforward. A sidecar that cannot be asked is
named, and the rest is shown.`

func newStatCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := statOptions{connect: connect, agents: agents, now: now}
	cmd := &cobra.Command{
		Use:   "stat [SERVICE] [-n NAMESPACE]",
		Short: "Show who calls which Service, how often, how much of it fails, why, and how long it takes",
		Long: `Show the calls of the mesh, by Service and caller: requests a second, the part that succeeds, latencies, and why the
others failed. It asks the sidecars of the callers, and gateways, twice, and shows what came between; --window 0 shows all since
each sidecar's start.

A request has failed if its answer was a 5xx, or a gRPC status that says so: UNKNOWN, DEADLINE_EXCEEDED, UNIMPLEMENTED,
INTERNAL, UNAVAILABLE or DATA_LOSS. One that a retry has saved has not. WHY has the reasons of answers that the sidecar
made itself (mizzenctl explain REASON), and other statuses from 400 on. Copies of requests (RequestMirror) are calls, too.

Gateways keep few metrics: of their calls there are the classes of HTTP statuses alone, and of connections without HTTP nothing.

` + statRights + `

The exit code is 0, and 1 if nothing could be found out.`,
		Example: `  # All calls of the mesh, for ten seconds
  mizzenctl stat

  # Who calls Service cart, and how does it go?
  mizzenctl stat cart.shop

  # What namespace web calls, since its sidecars started
  mizzenctl stat --from web --window 0

  # The failed part, in a script
  mizzenctl stat cart.shop --window 1m -o json | jq '[.calls[] | select(.requests > 0) | .failed / .requests]'`,
		Args: serviceOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.run(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	flags.DurationVarP(&o.window, "window", "w", defaultWindow, "time to look at, such as 1m; 0 is all since each sidecar's start")
	flags.StringVarP(&o.output, "output", "o", "table", wantOutput)
	return cmd
}

func newTopCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := statOptions{connect: connect, agents: agents, now: now, output: "table"}
	cmd := &cobra.Command{
		Use:   "top [SERVICE] [-n NAMESPACE]",
		Short: "Show the calls with the most requests, again and again",
		Long: fmt.Sprintf(`Show the %d calls of the mesh with the most requests, as stat does, again and again until it is interrupted.

%s`, topRows, statRights),
		Example: `  mizzenctl top
  mizzenctl top -n shop --interval 10s`,
		Args: serviceOrNone,
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.repeat(cmd.Context(), args, cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd.Flags())
	cmd.Flags().DurationVar(&o.window, "interval", topInterval, "time between two tables")
	return cmd
}

func serviceOrNone(_ *cobra.Command, args []string) error {
	if len(args) > 1 {
		return fmt.Errorf("%q: want one Service", args)
	}
	return nil
}

func (o *statOptions) addFlags(flags *pflag.FlagSet) {
	o.add(flags, "namespace of the Services (default: all)")
	flags.BoolVarP(&o.all, "all-namespaces", "A", false, "all namespaces, which is the default")
	flags.StringVar(&o.from, "from", "", "callers of this NAMESPACE, or WORKLOAD.NAMESPACE such as deploy/web.shop (default: all)")
}

// traffic is what is looked at: by whom, and who is asked.
type traffic struct {
	client client.Client
	agents agents
	// from is the flag --from, namespace that of it, and isCaller whether it means a pod.
	from, namespace string
	isCaller        func(*podInfo) bool
	wanted          func(destination) bool
	// pods are asked; all are others, too.
	pods, all []*podInfo
}

// open checks the flags, and finds the pods to ask.
func (o *statOptions) open(ctx context.Context, args []string) (*traffic, error) {
	t := &traffic{from: o.from, wanted: func(to destination) bool { return o.namespace == "" || to.Namespace == o.namespace }}
	if err := checkOutput(o.output); err != nil {
		return nil, err
	}
	if o.all && o.namespace != "" {
		return nil, errors.New("--all-namespaces: want no --namespace")
	}
	if len(args) == 1 {
		service, err := o.service(args[0])
		if err != nil {
			return nil, err
		}
		t.wanted = func(to destination) bool { return to.Key == service }
	}
	var err error
	if t.namespace, t.isCaller, err = callers(o.from); err != nil {
		return nil, err
	}
	if t.client, err = o.connect(&o.clusterFlags); err != nil {
		return nil, err
	}
	if t.agents, err = o.agents(&o.clusterFlags); err != nil {
		return nil, err
	}
	return t, t.list(ctx)
}

// list finds the pods that there are now.
func (t *traffic) list(ctx context.Context) error {
	var list corev1.PodList
	if err := t.client.List(ctx, &list, client.InNamespace(t.namespace)); err != nil {
		return fmt.Errorf("list Pods: %w", err)
	}
	inv := newInventory("")
	for i := range list.Items {
		inv.addPod(&list.Items[i])
	}
	t.all, t.pods = inv.pods, nil
	for _, p := range inv.pods {
		if hasProxy(p) && p.running() && t.isCaller(p) {
			t.pods = append(t.pods, p)
		}
	}
	switch {
	case len(t.pods) > 0:
		return nil
	case t.from != "":
		return fmt.Errorf("--from: %q: no running pod of it has a sidecar", t.from)
	}
	return errors.New("no running pod has a sidecar")
}

// service reads the name of a Service.
func (o *statOptions) service(text string) (mesh.Key, error) {
	t, err := o.parseTarget(text, ofService, o.defaultNamespace)
	if err == nil && t.kind != "" && t.kind != ofService {
		err = fmt.Errorf("%q: want a Service; --from names callers", text)
	}
	return t.Key, err
}

// callers reads the flag --from, a namespace or a workload of one. The namespace is empty for all.
func callers(text string) (namespace string, is func(*podInfo) bool, err error) {
	everybody := func(*podInfo) bool { return true }
	if !strings.ContainsAny(text, "./") {
		return text, everybody, nil
	}
	t, err := (&clusterFlags{}).parseTarget(text, "deploy", func() string { return "" })
	switch {
	case err != nil || t.kind == ofService:
		return "", nil, fmt.Errorf("--from: %q: want NAMESPACE, WORKLOAD.NAMESPACE or KIND/WORKLOAD.NAMESPACE, such as deploy/web.shop", text)
	case t.kind != "":
		return t.Namespace, func(p *podInfo) bool { return t.means(p.source) }, nil
	}
	return t.Namespace, func(p *podInfo) bool {
		_, name, _ := strings.Cut(p.workload, "/")
		return name == t.Name
	}, nil
}

// hasProxy reports whether a pod has a sidecar, or is one of a Gateway.
func hasProxy(p *podInfo) bool {
	return p.injected || p.source.Labels["app.kubernetes.io/managed-by"] == config.GatewayFieldManager
}

func (o *statOptions) run(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if o.window != 0 && o.window < minWindow {
		return fmt.Errorf("--window: %s: want %s or more, or 0 for all since each sidecar's start", o.window, minWindow)
	}
	t, err := o.open(ctx, args)
	if err != nil {
		return err
	}
	var before map[mesh.Key]sample
	if o.window > 0 {
		began := o.now()
		before = t.read(ctx, o.now, stderr)
		waited(ctx, o.window-o.now().Sub(began))
	}
	v := t.between(before, t.read(ctx, o.now, stderr))
	if err := ctx.Err(); err != nil {
		return err
	}
	if len(v.Unanswered) == len(t.pods) {
		first := v.Unanswered[0]
		return fmt.Errorf("no sidecar could be asked: pod %s/%s: %s", first.Namespace, first.Pod, printable(first.Problem))
	}
	return write(stdout, o.output, v, func(p paint) string { return renderStat(v, p) })
}

// checkInterval checks the flag --interval of top and dashboard.
func (o *statOptions) checkInterval() error {
	if o.window < minWindow {
		return fmt.Errorf("--interval: %s: want %s or more", o.window, minWindow)
	}
	return nil
}

// repeat shows a table again and again until ctx ends.
func (o *statOptions) repeat(ctx context.Context, args []string, stdout, stderr io.Writer) error {
	if err := o.checkInterval(); err != nil {
		return err
	}
	t, err := o.open(ctx, args)
	if err != nil {
		return err
	}
	p := paintFor(stdout)
	before := t.read(ctx, o.now, stderr)
	for waited(ctx, o.window) {
		err := t.list(ctx) // pods come and go
		after := t.read(ctx, o.now, io.Discard)
		switch {
		case ctx.Err() != nil:
			return nil //nolint:nilerr // to be interrupted is how it ends
		case err != nil:
			return err
		}
		v := t.between(before, after)
		v.busiest(topRows)
		if _, err := io.WriteString(stdout, p.clear()+renderStat(v, p)); err != nil {
			return err
		}
		before = after
	}
	return nil
}
