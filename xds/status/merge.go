package status

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
	gatewayxv1alpha1 "sigs.k8s.io/gateway-api/apisx/v1alpha1"

	"github.com/mizzen-mesh/mizzen/api/v1alpha1"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// owned are the condition types that Mizzen sets and removes.
var owned = []gatewayv1.RouteConditionType{
	gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteConditionPartiallyInvalid,
	gatewayv1.RouteConditionType(gatewayv1.GatewayConditionProgrammed), gatewayv1.RouteConditionType(gatewayv1.GatewayConditionInsecureFrontendValidationMode),
	gatewayv1.RouteConditionType(gatewayv1.ListenerConditionConflicted), gatewayv1.RouteConditionType(gatewayv1.ListenerConditionOverlappingTLSConfig),
}

// say sets a status to what is wanted, and reports whether that changed it.
func say(o client.Object, wanted []mesh.Status, now metav1.Time) (changed bool) {
	if policy, ok := o.(*v1alpha1.AuthorizationPolicy); ok {
		before := policy.Status.Conditions
		for _, w := range wanted {
			policy.Status.Conditions = mergeConditions(before, w, now)
		}
		return !equality.Semantic.DeepEqual(before, policy.Status.Conditions)
	}
	if before, _, ok := statusOf(o); ok {
		for _, w := range wanted {
			sayGateway(o, w, now)
		}
		after, _, _ := statusOf(o)
		return !equality.Semantic.DeepEqual(before, after)
	}
	before, most, set := entries(o)
	after := merge(before, wanted, most, now)
	set(after)
	return !equality.Semantic.DeepEqual(before, after)
}

// entries returns the entries of a status: a route's parents, or a policy's ancestors, whose fields are the same under
// other names. set replaces them; most is how many the schema allows.
func entries(o client.Object) (current []gatewayv1.RouteParentStatus, most int, set func([]gatewayv1.RouteParentStatus)) {
	ofRoute := func(s *gatewayv1.RouteStatus) ([]gatewayv1.RouteParentStatus, int, func([]gatewayv1.RouteParentStatus)) {
		return s.Parents, 32, func(parents []gatewayv1.RouteParentStatus) { s.Parents = parents }
	}
	ofPolicy := func(s *gatewayv1.PolicyStatus) (current []gatewayv1.RouteParentStatus, most int, set func([]gatewayv1.RouteParentStatus)) {
		for _, a := range s.Ancestors {
			current = append(current, gatewayv1.RouteParentStatus{ParentRef: a.AncestorRef, ControllerName: a.ControllerName, Conditions: a.Conditions})
		}
		return current, 16, func(list []gatewayv1.RouteParentStatus) {
			s.Ancestors = []gatewayv1.PolicyAncestorStatus{}
			for _, e := range list {
				s.Ancestors = append(s.Ancestors, gatewayv1.PolicyAncestorStatus{
					AncestorRef: e.ParentRef, ControllerName: e.ControllerName, Conditions: e.Conditions,
				})
			}
		}
	}
	switch o := o.(type) {
	case *gatewayv1.HTTPRoute:
		return ofRoute(&o.Status.RouteStatus)
	case *gatewayv1.GRPCRoute:
		return ofRoute(&o.Status.RouteStatus)
	case *gatewayv1.TLSRoute:
		return ofRoute(&o.Status.RouteStatus)
	case *gatewayv1.TCPRoute:
		return ofRoute(&o.Status.RouteStatus)
	case *gatewayv1.UDPRoute:
		return ofRoute(&o.Status.RouteStatus)
	case *gatewayxv1alpha1.XBackendTrafficPolicy:
		return ofPolicy(&o.Status)
	case *gatewayv1.BackendTLSPolicy:
		return ofPolicy(&o.Status)
	}
	panic(fmt.Sprintf("status: %T has none of ours", o))
}

// told reports whether an object's status already has a condition with this status, reason and message.
func told(o client.Object, s mesh.Status, c mesh.Condition) bool {
	has := func(conditions []metav1.Condition) bool {
		is := meta.FindStatusCondition(conditions, string(c.Type))
		return is != nil && (is.Status == metav1.ConditionTrue) == c.True && is.Reason == string(c.Reason) && is.Message == shorten(c.Message)
	}
	if policy, ok := o.(*v1alpha1.AuthorizationPolicy); ok {
		return has(policy.Status.Conditions)
	}
	if _, conditions, ok := statusOf(o); ok {
		return has(conditions)
	}
	current, _, _ := entries(o)
	return slices.ContainsFunc(current, func(e gatewayv1.RouteParentStatus) bool {
		return e.ControllerName == ControllerName && equality.Semantic.DeepEqual(e.ParentRef, s.Ref) && has(e.Conditions)
	})
}

// merge returns the entries with ours as wanted, at most most. Entries of other controllers, and conditions of other
// types in our entries, stay as they are. Our entry for a Service that the object no longer names is removed.
// https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
func merge(current []gatewayv1.RouteParentStatus, wanted []mesh.Status, most int, now metav1.Time) []gatewayv1.RouteParentStatus {
	out := []gatewayv1.RouteParentStatus{} // not nil: the schema requires the field
	done := make([]bool, len(wanted))
	for _, entry := range current {
		if entry.ControllerName != ControllerName {
			out = append(out, entry)
			continue
		}
		for i, w := range wanted {
			if !done[i] && equality.Semantic.DeepEqual(w.Ref, entry.ParentRef) {
				done[i] = true
				entry.Conditions = mergeConditions(entry.Conditions, w, now)
				out = append(out, entry)
				break
			}
		}
	}
	for i, w := range wanted {
		if !done[i] && len(out) < most {
			out = append(out, gatewayv1.RouteParentStatus{
				ParentRef: w.Ref, ControllerName: ControllerName, Conditions: mergeConditions(nil, w, now),
			})
		}
	}
	return out
}

// mergeConditions sets the conditions of one entry. A condition's time changes only with its status.
func mergeConditions(current []metav1.Condition, wanted mesh.Status, now metav1.Time) []metav1.Condition {
	out := slices.Clone(current)
	for _, t := range owned {
		if !slices.ContainsFunc(wanted.Conditions, func(c mesh.Condition) bool { return c.Type == t }) {
			meta.RemoveStatusCondition(&out, string(t))
		}
	}
	for _, c := range wanted.Conditions {
		status := metav1.ConditionFalse
		if c.True {
			status = metav1.ConditionTrue
		}
		meta.SetStatusCondition(&out, metav1.Condition{
			Type: string(c.Type), Status: status, Reason: string(c.Reason), Message: shorten(c.Message),
			ObservedGeneration: wanted.Generation, LastTransitionTime: now,
		})
	}
	return out
}

// shorten cuts a message at the length that the schema of conditions allows, 32,768 characters.
func shorten(message string) string {
	const limit, end = 32768, " …"
	if runes := []rune(message); len(runes) > limit {
		return string(runes[:limit-len(end)]) + end
	}
	return message
}
