package ctl

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// policyView is an AuthorizationPolicy that applies to a pod.
type policyView struct {
	Policy string `json:"policy"`
	Action string `json:"action"`
	DryRun bool   `json:"dryRun,omitempty"`
	// Rules in text form; a call that matches one of them matches the policy.
	Rules []string `json:"rules,omitempty"`
}

// authorization returns the policies that apply to a pod: none if the cluster does not have the kind.
func (c clusterReader) authorization(ctx context.Context, p *podInfo) ([]policyView, error) {
	var list v1alpha1.AuthorizationPolicyList
	if err := listOptional(ctx, c.Client, &list, "AuthorizationPolicies", client.InNamespace(p.Namespace)); err != nil {
		return nil, err
	}
	var built []mesh.PodPolicy
	for i := range list.Items {
		built = append(built, mesh.BuildPodPolicy(&list.Items[i]))
	}
	var out []policyView
	for _, policy := range mesh.PoliciesOf(p.Pod, slices.Values(built)) {
		v := policyView{Policy: policy.Name, Action: string(v1alpha1.Allow), DryRun: policy.DryRun}
		if policy.Deny {
			v.Action = string(v1alpha1.Deny)
		}
		for _, rule := range policy.Rules {
			v.Rules = append(v.Rules, ruleText(rule))
		}
		out = append(out, v)
	}
	return out, nil
}

func ruleText(r mesh.CallRule) string {
	from := []string{"everybody, including plain text"}
	if len(r.From) > 0 {
		from = nil
	}
	for _, c := range r.From {
		if c.ServiceAccount == "" {
			from = append(from, "namespace "+c.Namespace)
		} else {
			from = append(from, "service account "+c.Namespace+"/"+c.ServiceAccount)
		}
	}
	text := strings.Join(from, ", ")
	if len(r.Ports) > 0 {
		text += "; port " + numbers(r.Ports)
	}
	var requests []string
	for _, m := range r.HTTP {
		requests = append(requests, requestText(m))
	}
	if len(requests) > 0 {
		text += "; " + strings.Join(requests, " or ")
	}
	return text
}

func requestText(m mesh.HTTPMatch) string {
	text := strings.Join(m.Methods, ", ")
	if text == "" {
		text = "every method"
	}
	if m.Path != nil {
		text += fmt.Sprintf(" path %s %s", signs[m.Path.Type], m.Path.Value)
	}
	return text
}

var signs = map[mesh.MatchType]string{mesh.Exact: "=", mesh.Prefix: "prefix", mesh.Regex: "~"}

func renderPolicies(v identityView, p paint) string {
	title := p.in(bold, "May be called by") + "\n"
	if len(v.Policies) == 0 {
		return title + "  everybody: no AuthorizationPolicy selects the pod\n"
	}
	var t table
	allows := false
	for _, policy := range v.Policies {
		action := policy.Action
		if policy.DryRun {
			action += " (dry run)"
		} else if action == string(v1alpha1.Allow) {
			allows = true
		}
		rules := policy.Rules
		if len(rules) == 0 {
			rules = []string{"nobody"}
		}
		t.block(plain(""), plain(action), plain(rules...), []cell{{policy.Policy, dim}})
	}
	rest := "all others: allowed"
	if allows {
		rest = "all others: refused"
	}
	t.row(plain("", "-", rest)...)
	return title + t.String(p)
}
