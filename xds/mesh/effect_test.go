package mesh

import (
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
)

func TestEffectOf(t *testing.T) {
	app := func(name string) v1alpha1.PodSelector {
		return v1alpha1.PodSelector{MatchLabels: map[string]v1alpha1.LabelValue{"app": v1alpha1.LabelValue(name)}}
	}
	some := []v1alpha1.Rule{{From: []v1alpha1.Peer{{Namespace: "shop"}}}}
	policy := func(s v1alpha1.AuthorizationPolicySpec) PodPolicy {
		o := &v1alpha1.AuthorizationPolicy{Spec: s}
		o.Namespace, o.Name = "shop", "p"
		return BuildPodPolicy(o)
	}
	pod := func(namespace, name, app string, meshed bool) *Pod {
		return &Pod{Key: Key{namespace, name}, Labels: map[string]string{"app": app}, Meshed: meshed}
	}
	pods := []*Pod{pod("shop", "cart-1", "cart", true), pod("shop", "cart-0", "cart", true), pod("shop", "web-0", "web", true),
		pod("shop", "old-0", "old", false), pod("bank", "till-0", "till", true)}
	for name, c := range map[string]struct {
		policy v1alpha1.AuthorizationPolicySpec
		others []v1alpha1.AuthorizationPolicySpec
		want   Effect
		reason string
	}{
		"selects pods":            {v1alpha1.AuthorizationPolicySpec{PodSelector: app("cart"), Rules: some}, nil, Effect{Pods: true}, v1alpha1.ReasonEffective},
		"selects none":            {v1alpha1.AuthorizationPolicySpec{PodSelector: app("crat"), Rules: some}, nil, Effect{}, v1alpha1.ReasonNoPods},
		"of another namespace":    {v1alpha1.AuthorizationPolicySpec{PodSelector: app("till"), Rules: some}, nil, Effect{}, v1alpha1.ReasonNoPods},
		"without a sidecar":       {v1alpha1.AuthorizationPolicySpec{PodSelector: app("old"), Rules: some}, nil, Effect{}, v1alpha1.ReasonNoPods},
		"locks all out":           {v1alpha1.AuthorizationPolicySpec{}, nil, Effect{Pods: true, LockedOut: "cart-0"}, v1alpha1.ReasonNobodyAllowed},
		"beside one for a part":   {v1alpha1.AuthorizationPolicySpec{}, []v1alpha1.AuthorizationPolicySpec{{PodSelector: app("cart"), Rules: some}}, Effect{Pods: true, LockedOut: "web-0"}, v1alpha1.ReasonNobodyAllowed},
		"beside one for all":      {v1alpha1.AuthorizationPolicySpec{}, []v1alpha1.AuthorizationPolicySpec{{Rules: some}}, Effect{Pods: true}, v1alpha1.ReasonEffective},
		"beside one in dry run":   {v1alpha1.AuthorizationPolicySpec{PodSelector: app("cart")}, []v1alpha1.AuthorizationPolicySpec{{Rules: some, DryRun: true}}, Effect{Pods: true, LockedOut: "cart-0"}, v1alpha1.ReasonNobodyAllowed},
		"both in dry run":         {v1alpha1.AuthorizationPolicySpec{DryRun: true}, []v1alpha1.AuthorizationPolicySpec{{Rules: some, DryRun: true}}, Effect{Pods: true}, v1alpha1.ReasonEffective},
		"a Deny lets nobody in":   {v1alpha1.AuthorizationPolicySpec{PodSelector: app("cart")}, []v1alpha1.AuthorizationPolicySpec{{Action: v1alpha1.Deny, Rules: some}}, Effect{Pods: true, LockedOut: "cart-0"}, v1alpha1.ReasonNobodyAllowed},
		"a Deny locks nobody out": {v1alpha1.AuthorizationPolicySpec{Action: v1alpha1.Deny, Rules: some}, nil, Effect{Pods: true}, v1alpha1.ReasonEffective},
	} {
		t.Run(name, func(t *testing.T) {
			all := []PodPolicy{policy(c.policy)}
			for _, o := range c.others {
				all = append(all, policy(o))
			}
			got := EffectOf(all[0], slices.Values(pods), all)
			if condition := got.Condition(); got != c.want || string(condition.Reason) != c.reason || condition.True != c.want.Pods {
				t.Errorf("got %+v, %+v, want %+v, %s", got, condition, c.want, c.reason)
			}
		})
	}
}
