package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/config"
)

// TrafficPolicy has the settings of an XBackendTrafficPolicy for calls to a Service. It is zero for a Service without such
// a policy.
type TrafficPolicy struct {
	// RetryBudget bounds the retries that routes and annotations ask for; nil for the mesh's default.
	RetryBudget *RetryBudget
	// Session keeps the calls of one client at one endpoint, or is nil.
	Session *Session
}

// RetryBudget bounds the retries at each moment.
type RetryBudget struct {
	// Percent of the active requests may be retries.
	Percent uint32
	// MinConcurrent retries are always allowed.
	MinConcurrent uint32
}

// TrafficPolicyTargets returns the Services that a policy names, each once, in the order of the object. Targets of other
// kinds are not ours.
func TrafficPolicyTargets(o *gatewayxv1alpha1.XBackendTrafficPolicy) []Key {
	var out []Key
	for _, ref := range o.Spec.TargetRefs {
		key := Key{o.Namespace, string(ref.Name)}
		if ref.Group == "" && ref.Kind == "Service" && !slices.Contains(out, key) {
			out = append(out, key)
		}
	}
	return out
}

// BuildTrafficPolicies returns the policy that has effect on a Service, and the statuses of all policies that target it,
// sorted by policy. svc is nil if the Service does not exist or BuildService returned nil. Policies for other Services are
// ignored.
//
// If several policies target the Service, the oldest has effect as a whole, and among policies of the same age the first
// by name: such policies are not merged. A policy that cannot be used has no effect, and does not displace another one.
// https://gateway-api.sigs.k8s.io/geps/gep-713/#conflict-resolution
func BuildTrafficPolicies(target Key, svc *Service, policies []*gatewayxv1alpha1.XBackendTrafficPolicy) (TrafficPolicy, []Status) {
	var own []*gatewayxv1alpha1.XBackendTrafficPolicy
	for _, o := range policies {
		if slices.Contains(TrafficPolicyTargets(o), target) {
			own = append(own, o)
		}
	}
	slices.SortFunc(own, func(a, b *gatewayxv1alpha1.XBackendTrafficPolicy) int {
		return cmp.Or(a.CreationTimestamp.Compare(b.CreationTimestamp.Time), cmp.Compare(a.Name, b.Name))
	})
	var holds TrafficPolicy
	var statuses []Status
	winner := ""
	for _, o := range own {
		accepted := Condition{Type: gatewayv1.RouteConditionType(gatewayv1.PolicyConditionAccepted)}
		reason := gatewayv1.PolicyReasonAccepted
		policy, f := readTrafficPolicy(target, o)
		switch {
		case svc == nil:
			reason = gatewayv1.PolicyReasonTargetNotFound
			accepted.Message = fmt.Sprintf("Service %s does not exist, or has no cluster IP with a TCP port", target)
		case len(f) > 0:
			reason, accepted.Message = gatewayv1.PolicyReasonInvalid, f.String()
		case winner != "":
			reason = gatewayv1.PolicyReasonConflicted
			accepted.Message = fmt.Sprintf("the older XBackendTrafficPolicy %s applies to Service %s", winner, target)
		default:
			holds, winner = policy, o.Name
			accepted.True, accepted.Message = true, fmt.Sprintf("applies to Service %s", target)
		}
		accepted.Reason = gatewayv1.RouteConditionReason(reason)
		statuses = append(statuses, Status{
			Object: ID{KindTrafficPolicy, Key{o.Namespace, o.Name}}, Generation: o.Generation, Ref: serviceRef(target), Conditions: []Condition{accepted},
		})
	}
	slices.SortFunc(statuses, func(a, b Status) int { return cmp.Compare(a.Object.String(), b.Object.String()) })
	return holds, statuses
}

func serviceRef(key Key) gatewayv1.ParentReference {
	return gatewayv1.ParentReference{
		Group: new(gatewayv1.Group("")), Kind: new(gatewayv1.Kind("Service")),
		Namespace: new(gatewayv1.Namespace(key.Namespace)), Name: gatewayv1.ObjectName(key.Name),
	}
}

func readTrafficPolicy(target Key, o *gatewayxv1alpha1.XBackendTrafficPolicy) (TrafficPolicy, faults) {
	var f faults
	var p TrafficPolicy
	if s := o.Spec.SessionPersistence; s != nil {
		p.Session = readSession("spec.sessionPersistence", *s, target.String(), &f)
	}
	if c := o.Spec.RetryConstraint; c != nil {
		p.RetryBudget = readRetryConstraint("spec.retryConstraint", *c, &f)
	}
	return p, f
}

// readRetryConstraint reads a retry constraint, with the defaults of the schema for missing fields.
//
// Envoy bounds the number of retries at the same time. The share is bounded at each moment, so it is also bounded over
// each budget.interval. Envoy's own budget_interval is not used: it compares the retries of the moment with the requests
// of the whole interval, which bounds nothing (https://github.com/envoyproxy/envoy/pull/44147). A minimum rate becomes the
// number of retries that it allows in one second, which is right for retries that take a second.
func readRetryConstraint(field string, o gatewayxv1alpha1.RetryConstraint, f *faults) *RetryBudget {
	percent, count, per := 20, 10, time.Second
	duration := func(name string, text *gatewayv1.Duration, least time.Duration) time.Duration {
		d, ok := config.ParseDuration(string(*text))
		if !ok || d < least || d > time.Hour {
			f.add(field+name, *text, fmt.Sprintf("a Gateway API duration from %v to 1h", least))
		}
		return d
	}
	if b := o.Budget; b != nil {
		if b.Percent != nil {
			percent = *b.Percent
		}
		if percent < 0 || percent > 100 {
			f.add(field+".budget.percent", percent, "0 to 100")
		}
		if b.Interval != nil {
			duration(".budget.interval", b.Interval, time.Second)
		}
	}
	if r := o.MinRetryRate; r != nil {
		if r.Count != nil {
			count = *r.Count
		}
		if count < 1 || count > 1_000_000 {
			f.add(field+".minRetryRate.count", count, "1 to 1000000")
		}
		if r.Interval != nil {
			per = duration(".minRetryRate.interval", r.Interval, time.Millisecond)
		}
	}
	if len(*f) > 0 {
		return nil
	}
	// Rounded up. It is up to 10⁹ if the interval is 1 ms.
	second := (time.Duration(count)*time.Second + per - 1) / per
	return &RetryBudget{Percent: uint32(percent), MinConcurrent: uint32(second)}
}
