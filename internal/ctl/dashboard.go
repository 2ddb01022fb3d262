package ctl

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/dashboard"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type dashboardOptions struct {
	statOptions
	system string
	port   uint16
}

func newDashboardCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := dashboardOptions{statOptions: statOptions{connect: connect, agents: agents, now: now, output: "table"}}
	cmd := &cobra.Command{
		Use:   "dashboard",
		Short: "Show in the browser who calls whom, live",
		Long: `Serve a page with the calls of the mesh, live: a graph of Services and callers with rates, success, latencies and mTLS; a table of
all calls with the reasons of those that failed; and what status says. It prints the page's address and serves it until it is interrupted.

The page is served by mizzenctl on this machine's loopback, at an address that nobody can guess; nothing new listens in the cluster, and it shows
what you may read. It asks sidecars only while a page is open. There are no latencies with an interval under five seconds.

` + statRights + ` With the right to list Services the graph knows which workloads
stand behind a Service. For the state of the mesh it needs what status needs.`,
		Example: `  mizzenctl dashboard
  mizzenctl dashboard -n shop --port 8080`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return o.run(cmd.Context(), cmd.OutOrStdout()) },
	}
	flags := cmd.Flags()
	o.addFlags(flags)
	flags.DurationVar(&o.window, "interval", topInterval, "time between two reads")
	flags.Uint16Var(&o.port, "port", 0, "port on this machine (default: one that is free)")
	flags.StringVar(&o.system, "system-namespace", config.SystemNamespace, "namespace of the control plane")
	return cmd
}

func (o *dashboardOptions) run(ctx context.Context, stdout io.Writer) error {
	if err := o.checkInterval(); err != nil {
		return err
	}
	t, err := o.open(ctx, nil) // mistakes are told at once
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(int(o.port))))
	if err != nil {
		return fmt.Errorf("--port: %w", err)
	}
	d := dashboard.New(dashboard.Options{Source: &meshSource{traffic: t, system: o.system, now: o.now, longest: 3*o.window + agentTimeout}, Interval: o.window})
	server := &http.Server{Handler: d.Handler(), ReadHeaderTimeout: 10 * time.Second}
	go func() {
		<-ctx.Done()
		_ = server.Close() // Serve returns, which is all that is wanted
	}()
	go d.Run(ctx)
	if _, err := fmt.Fprintf(stdout, "http://%s%s\n", l.Addr(), d.Path()); err != nil {
		return err
	}
	if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// meshSource reads the cluster for the dashboard.
type meshSource struct {
	traffic *traffic
	system  string
	now     func() time.Time
	// before has the last sample of each sidecar that answered.
	before map[mesh.Key]sample
	last   time.Time
	// longest is the longest time between two reads of which one is compared with the other.
	longest time.Duration
}

// Status implements dashboard.Source.
func (s *meshSource) Status(ctx context.Context) (any, error) {
	return settledStatus(ctx, s.traffic.client, s.traffic.agents, s.system).view(s.now()), ctx.Err()
}

// Traffic implements dashboard.Source.
func (s *meshSource) Traffic(ctx context.Context) (dashboard.Traffic, error) {
	var out dashboard.Traffic
	if err := s.traffic.list(ctx); err != nil {
		return out, err
	}
	after := s.traffic.read(ctx, s.now, io.Discard)
	// By the clock on the wall: while this machine sleeps, the other one stands still.
	now := s.now().Round(0)
	if now.Sub(s.last) > s.longest {
		s.before = after // nothing has come since
	}
	v := s.traffic.between(s.before, after)
	for key, was := range s.before { // what a sidecar counts while it cannot be asked comes when it can
		if after[key].fail != nil && was.fail == nil {
			after[key] = was
		}
	}
	s.before, s.last = after, now
	out.Seconds = v.Seconds
	plain := map[dashboard.Workload]bool{}
	for _, p := range s.traffic.pods {
		if !p.Meshed && p.injected {
			plain[dashboard.Workload{Namespace: p.Namespace, Name: p.workload}] = true
		}
	}
	for _, c := range v.Calls {
		call := c.forDashboard()
		call.Plain = plain[call.From]
		out.Calls = append(out.Calls, call)
	}
	for _, m := range v.Unanswered {
		out.Missing = append(out.Missing, fmt.Sprintf("pod %s/%s could not be asked: %s", m.Namespace, m.Pod, m.Problem))
	}
	if n := len(out.Missing); n > detailsShown {
		out.Missing = append(out.Missing[:detailsShown], fmt.Sprintf("and %d more", n-detailsShown))
	}
	if s.traffic.namespace != "" {
		out.Missing = append(out.Missing, "pods of other namespaces than "+s.traffic.namespace+" were not looked at (--from)")
	}
	var services corev1.ServiceList
	if err := s.traffic.client.List(ctx, &services); err != nil {
		out.Missing = append(out.Missing, "list Services: "+err.Error())
	}
	out.Services = behind(services.Items, s.traffic.all)
	return out, nil
}

func (c callsView) forDashboard() dashboard.Call {
	return dashboard.Call{
		From: dashboard.Workload{Namespace: c.From.Namespace, Name: c.From.Workload}, Namespace: c.To.Namespace, Service: c.To.Service, Port: c.To.Port,
		Requests: c.Requests, Failed: c.Failed, PerSecond: c.PerSecond, P50: c.P50, P99: c.P99, Why: c.why(),
		Retries: c.Retries, Open: c.Connections.Open, FailedToConnect: c.Connections.FailedToConnect, Bytes: c.Connections.Sent + c.Connections.Received,
	}
}

// behind returns for each Service with a selector the pods that it selects, by workload.
func behind(services []corev1.Service, pods []*podInfo) []dashboard.Service {
	var out []dashboard.Service
	for _, svc := range services {
		if len(svc.Spec.Selector) == 0 {
			continue
		}
		selector := labels.SelectorFromSet(svc.Spec.Selector)
		s := dashboard.Service{Namespace: svc.Namespace, Name: svc.Name}
		seen := map[dashboard.Workload]bool{}
		for _, p := range pods {
			if p.Namespace != svc.Namespace || p.ended() || !selector.Matches(labels.Set(p.source.Labels)) {
				continue
			}
			s.Pods++
			if p.Meshed {
				s.Meshed++
			}
			if w := (dashboard.Workload{Namespace: p.Namespace, Name: p.workload}); !seen[w] {
				seen[w] = true
				s.Workloads = append(s.Workloads, w)
			}
		}
		out = append(out, s)
	}
	return out
}
