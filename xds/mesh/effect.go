package mesh

import (
	"fmt"
	"iter"
	"slices"

	"k8s.io/apimachinery/pkg/labels"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
)

// Holds reports whether the policy selects a pod.
func (p PodPolicy) Holds(pod *Pod) bool {
	return p.namespace == pod.Namespace && p.selector.Matches(labels.Set(pod.Labels))
}

// Effect is what a policy means for the current pods. An accepted policy may still have no effect, or more effect than its
// author wanted.
type Effect struct {
	// Pods is true if the policy selects a pod with a sidecar.
	Pods bool
	// LockedOut is a selected pod that nobody may call, because no Allow policy that selects it has a rule.
	LockedOut string
}

// EffectOf returns the effect of a policy on the pods of its namespace, together with the namespace's other policies.
// Policies in dry run count only for a policy that is in dry run itself.
func EffectOf(p PodPolicy, pods iter.Seq[*Pod], policies []PodPolicy) Effect {
	var out Effect
	for pod := range pods {
		if !pod.Meshed || !p.Holds(pod) {
			continue
		}
		out.Pods = true
		if p.Policy.Deny || len(p.Policy.Rules) > 0 {
			break // such a policy locks nobody out
		}
		if locked := p.locksOut(pod, policies); locked && (out.LockedOut == "" || pod.Name < out.LockedOut) {
			out.LockedOut = pod.Name
		}
	}
	return out
}

func (p PodPolicy) locksOut(pod *Pod, policies []PodPolicy) bool {
	return !slices.ContainsFunc(policies, func(o PodPolicy) bool {
		return !o.Policy.Deny && len(o.Policy.Rules) > 0 && (!o.Policy.DryRun || p.Policy.DryRun) && o.Holds(pod)
	})
}

// Condition returns the condition for the policy's status.
func (e Effect) Condition() Condition {
	c := Condition{Type: v1alpha1.ConditionEffective}
	switch {
	case !e.Pods:
		c.Reason = v1alpha1.ReasonNoPods
		c.Message = "podSelector matches no pod with a sidecar in this namespace, so the policy refuses nothing"
	case e.LockedOut != "":
		c.True, c.Reason = true, v1alpha1.ReasonNobodyAllowed
		c.Message = fmt.Sprintf("nobody may call Pod %s, because no Allow that selects it has a rule", e.LockedOut)
	default:
		c.True, c.Reason, c.Message = true, v1alpha1.ReasonEffective, "the policy selects existing pods"
	}
	return c
}
