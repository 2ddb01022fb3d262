package ctl

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

type dryRunOptions struct{ lookOptions }

func newDryRunCommand(connect connector, agents agentConnector, now func() time.Time) *cobra.Command {
	o := dryRunOptions{lookOptions{connect: connect, agents: agents, now: now}}
	cmd := &cobra.Command{
		Use:   "dryrun [-n NAMESPACE]",
		Short: "List callers that the AuthorizationPolicies in dry run would refuse",
		Long: `List the callers that AuthorizationPolicies in dry run would refuse if they were enforced beside the others: which
workload they call at which port, by what they would be refused, how many of their connections are open, and when
they were seen last.

Sidecars remember who has called their pod, by service account, from their start on; what they remember is judged by
the policies as they are now. So a connection that began before the policy and never ends is told, too. Where a
sidecar reads HTTP, each request is judged by itself, by the policies of its time: after you have changed them, --since
leaves out what was before. Callers that were there before the policy make their connections anew within some seconds.

Nobody would be refused is said only where all pods could be asked, and have looked for an hour, or what --for says.

The exit code is 0 if nobody would be refused, 2 if somebody would or not all is known, and 1 if nothing could be
found out.`,
		Example: `  # Before dryRun is taken away in namespace shop
  mizzenctl dryrun -n shop --for 24h`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return o.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	o.addFlags(cmd.Flags(), "namespace of the policies (default: all)", "how long sidecars must have watched before the result is complete")
	return cmd
}

func (o *dryRunOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	c, a, inv, err := o.open(ctx)
	if err != nil {
		return err
	}
	policies, err := podPolicies(ctx, c, o.namespace)
	if err != nil {
		return err
	}
	tried := map[mesh.Key][]mesh.Policy{}
	var pods, askable []*podInfo
	for _, p := range inv.pods {
		all := mesh.PoliciesOf(p.Pod, slices.Values(policies))
		if p.Meshed && !p.ended() && slices.ContainsFunc(all, func(p mesh.Policy) bool { return p.DryRun }) {
			tried[p.Key] = all
			pods = append(pods, p)
			if p.running() {
				askable = append(askable, p)
			}
		}
	}
	if len(pods) == 0 {
		return errors.New("no AuthorizationPolicy in dry run selects a pod with a sidecar")
	}
	l := o.look()
	v := inv.dryRun(pods, tried, askAll(ctx, a, askable, stderr), l)
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := write(stdout, o.output, v, func(p paint) string { return renderDryRun(v, o.now(), p) }); err != nil {
		return err
	}
	return v.exit()
}

// podPolicies reads the policies of a namespace, or of all.
func podPolicies(ctx context.Context, c client.Client, namespace string) ([]mesh.PodPolicy, error) {
	var list v1alpha1.AuthorizationPolicyList
	if err := listOptional(ctx, c, &list, "AuthorizationPolicies", client.InNamespace(namespace)); err != nil {
		return nil, err
	}
	var out []mesh.PodPolicy
	for i := range list.Items {
		out = append(out, mesh.BuildPodPolicy(&list.Items[i]))
	}
	return out, nil
}

// dryRunView is the result of dryrun, and the format of -o json and yaml.
type dryRunView struct {
	Refused []wouldRefuse `json:"refused,omitempty"`
	// Requests are ports at which sidecars judge each request.
	Requests   []workloadView `json:"judgedByRequest,omitempty"`
	Unanswered []missingView  `json:"unanswered,omitempty"`
	// Looked is the time in seconds for which the youngest agent has watched, and Wanted the required time.
	Looked int64 `json:"lookedSeconds"`
	Wanted int64 `json:"wantedSeconds"`
	// Unseen are connections from before the sidecar read HTTP at their port, whose requests it cannot see.
	Unseen uint64 `json:"unseen,omitempty"`
	// Forgotten is the number of callers that agents had to drop.
	Forgotten uint64   `json:"forgotten,omitempty"`
	Notes     []string `json:"notes,omitempty"`
}

// wouldRefuse is a caller that would be refused.
type wouldRefuse struct {
	Namespace string `json:"namespace"`
	Workload  string `json:"workload"`
	Port      uint16 `json:"port"`
	// Caller is "<namespace>/<service account>", or a description of a caller without mTLS.
	Caller string `json:"caller"`
	// By is the Deny that matches, or empty if no Allow matches.
	By          string    `json:"by,omitempty"`
	Connections uint64    `json:"connections,omitempty"`
	Requests    uint64    `json:"requests,omitempty"`
	Open        uint64    `json:"open,omitempty"`
	Last        time.Time `json:"lastSeen"`
}

func (i *inventory) dryRun(pods []*podInfo, tried map[mesh.Key][]mesh.Policy, said map[mesh.Key]heard, l look) dryRunView {
	v := dryRunView{Notes: i.notes, Wanted: int64(l.atLeast.Seconds()), Looked: -1}
	requests := workloads{}
	for _, p := range pods {
		in := mesh.Inbound{ForwardCert: i.modesOf(p).ForwardCert, Policies: tried[p.Key]}
		http := in.HTTPPorts() // what ports are declared to be changes nothing of who is judged, and how
		if len(http) > 0 {
			requests.add(p, http)
		}
		h, asked := said[p.Key]
		switch {
		case !asked:
			v.Unanswered = append(v.Unanswered, missingView{p.Namespace, p.Name, "not asked, because it is not running"})
			continue
		case h.err != nil:
			v.Unanswered = append(v.Unanswered, missingView{p.Namespace, p.Name, h.err.Error()})
			continue
		}
		v.Forgotten += h.Forgotten + h.MTLSForgotten
		if looked := int64(l.now.Sub(h.Since).Seconds()); v.Looked < 0 || looked < v.Looked {
			v.Looked = looked
		}
		for _, r := range h.WouldRefuse {
			if r.Last.Before(l.after) {
				continue
			}
			seen := agentapi.Caller{ID: r.ID, Source: r.Source, Port: r.Port, Requests: r.Count, First: r.Last, Last: r.Last}
			who, name := i.callerOf(seen, p)
			verdict, wouldBe := mesh.Authorize(tried[p.Key], mesh.Call{Port: r.Port, Caller: who})
			switch {
			case slices.Contains(http, r.Port):
				v.add(p, seen, name, printable(r.Policy))
			case r.ID != "" && in.RefusesCallers(r.Port) && verdict.Allowed && !wouldBe.Allowed: // HTTP with mTLS, of which the agent hears no more; others are judged below
				v.add(p, seen, name, wouldBe.By)
			}
		}
		for _, seen := range slices.Concat(h.MTLS, h.Callers) {
			policies := tried[p.Key]
			switch requests := slices.Contains(http, seen.Port); {
			case seen.Last.Before(l.after) && seen.Live == 0, requests && seen.ID == "", requests && seen.Live == 0:
				continue
			case requests: // a connection from before the port was taken for HTTP: nobody looks into it
				policies = whateverTheRequest(policies)
			}
			who, name := i.callerOf(seen, p)
			verdict, wouldBe := mesh.Authorize(policies, mesh.Call{Port: seen.Port, Caller: who})
			switch {
			case verdict.Allowed && !wouldBe.Allowed:
				v.add(p, seen, name, wouldBe.By)
			case slices.Contains(http, seen.Port):
				v.Unseen += seen.Live
			}
		}
	}
	slices.SortFunc(v.Refused, func(a, b wouldRefuse) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Workload, b.Workload), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Caller, b.Caller))
	})
	v.Requests = requests.sorted()
	return v
}

// whateverTheRequest returns the parts of policies that refuse a caller for every request.
func whateverTheRequest(policies []mesh.Policy) []mesh.Policy {
	out := slices.Clone(policies)
	for i, p := range out {
		out[i].Rules = nil
		for _, r := range p.Rules {
			if len(r.HTTP) > 0 && p.Deny {
				continue
			}
			r.HTTP = nil
			out[i].Rules = append(out[i].Rules, r)
		}
	}
	return out
}

// callerOf returns the caller's identity for policies, and its text for people.
func (i *inventory) callerOf(seen agentapi.Caller, target *podInfo) (mesh.Caller, string) {
	if seen.ID == "" {
		return mesh.Caller{}, i.caller(seen, target).text() + " (no mTLS)"
	}
	path, _ := strings.CutPrefix(seen.ID, "spiffe://")
	_, path, _ = strings.Cut(path, "/ns/")
	namespace, account, _ := strings.Cut(path, "/sa/")
	return mesh.Caller{Namespace: namespace, ServiceAccount: account}, printable(namespace + "/" + account)
}

// add merges the pods of a workload.
func (v *dryRunView) add(p *podInfo, seen agentapi.Caller, name, by string) {
	at := slices.IndexFunc(v.Refused, func(r wouldRefuse) bool {
		return r.Namespace == p.Namespace && r.Workload == p.workload && r.Port == seen.Port && r.Caller == name && r.By == by
	})
	if at < 0 {
		v.Refused = append(v.Refused, wouldRefuse{Namespace: p.Namespace, Workload: p.workload, Port: seen.Port, Caller: name, By: by})
		at = len(v.Refused) - 1
	}
	r := &v.Refused[at]
	r.Connections, r.Requests, r.Open = r.Connections+seen.Connections, r.Requests+seen.Requests, r.Open+seen.Live
	if seen.Last.After(r.Last) {
		r.Last = seen.Last.UTC()
	}
}

// unknown returns why the result is incomplete, or an empty text.
func (v dryRunView) unknown() string {
	switch {
	case len(v.Unanswered) > 0:
		return plural(len(v.Unanswered), "pod") + " could not be asked"
	case v.Unseen > 0:
		return plural(int(v.Unseen), "connection") + " from before the sidecar read HTTP at the port, whose requests it cannot see"
	case v.Forgotten > 0:
		return fmt.Sprintf("there were more callers than sidecars remember: %d were dropped", v.Forgotten)
	case v.Looked < v.Wanted:
		return fmt.Sprintf("a sidecar has watched for only %s of the required %s (--for)", seconds(v.Looked), seconds(v.Wanted))
	}
	return ""
}

func (v dryRunView) exit() error {
	switch why := v.unknown(); {
	case len(v.Refused) > 0:
		return &ExitError{exitNotSafe, plural(len(v.Refused), "caller") + " would be refused"}
	case why != "":
		return &ExitError{exitNotSafe, "the result is incomplete: " + why}
	}
	return nil
}

func renderDryRun(v dryRunView, now time.Time, p paint) string {
	var parts []string
	if len(v.Refused) > 0 {
		var t table
		t.row(cell{}, cell{"CALLED", dim}, cell{"PORT", dim}, cell{"CALLER", dim}, cell{"CALLS", dim}, cell{"LAST SEEN", dim}, cell{"BY", dim})
		for _, r := range v.Refused {
			by := "no Allow"
			if r.By != "" {
				by = "Deny " + r.By
			}
			t.row(cell{}, cell{text: r.Namespace + "/" + r.Workload}, cell{text: fmt.Sprint(r.Port)}, cell{r.Caller, red},
				cell{text: callsText(r.Connections, r.Requests, r.Open)}, cell{text: distance(r.Last, now)}, cell{by, dim})
		}
		parts = append(parts, p.in(bold, "Would be refused")+"\n"+t.String(p))
	}
	if len(v.Requests) > 0 {
		var t table
		for _, w := range v.Requests {
			t.row(plain("", w.Namespace+"/"+w.Workload, numbers(w.Ports))...)
		}
		parts = append(parts, p.in(bold, "Requests judged by sidecars")+"  by the policies at that time\n"+t.String(p))
	}
	if len(v.Unanswered) > 0 {
		var t table
		for _, m := range v.Unanswered {
			t.row(plain("", m.Namespace+"/"+m.Pod, m.Problem)...)
		}
		parts = append(parts, p.in(bold, "Not known")+"\n"+t.String(p))
	}
	if len(v.Refused) == 0 && v.unknown() == "" {
		parts = append(parts, fmt.Sprintf("No caller of the last %s would be refused\n", seconds(v.Looked)))
	}
	if len(v.Notes) > 0 {
		parts = append(parts, renderNotes(v.Notes, p))
	}
	return strings.Join(parts, "\n")
}
