package status

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// maxParents is what the schema allows in status.parents.
const maxParents = 32

// owned are the condition types that are ours to set and to take away.
var owned = []gatewayv1.RouteConditionType{
	gatewayv1.RouteConditionAccepted, gatewayv1.RouteConditionResolvedRefs, gatewayv1.RouteConditionPartiallyInvalid,
}

// mergeParents gives status.parents with our entries as wanted. Entries of other controllers, and conditions
// of other types in ours, stay as they are; of a parent that is no longer named, our entry goes.
// https://gateway-api.sigs.k8s.io/reference/spec/#routestatus
func mergeParents(current []gatewayv1.RouteParentStatus, wanted []mesh.ParentStatus, now metav1.Time) []gatewayv1.RouteParentStatus {
	out := []gatewayv1.RouteParentStatus{} // "required" in the schema: never null
	done := make([]bool, len(wanted))
	for _, entry := range current {
		if entry.ControllerName != ControllerName {
			out = append(out, entry)
			continue
		}
		i := slices.IndexFunc(wanted, func(w mesh.ParentStatus) bool { return equality.Semantic.DeepEqual(w.Ref, entry.ParentRef) })
		if i >= 0 && !done[i] {
			done[i] = true
			entry.Conditions = mergeConditions(entry.Conditions, wanted[i], now)
			out = append(out, entry)
		}
	}
	for i, w := range wanted {
		if !done[i] && len(out) < maxParents {
			out = append(out, gatewayv1.RouteParentStatus{
				ParentRef: w.Ref, ControllerName: ControllerName, Conditions: mergeConditions(nil, w, now),
			})
		}
	}
	return out
}

// mergeConditions sets the conditions of one parent; the time of one changes with its status only.
func mergeConditions(current []metav1.Condition, wanted mesh.ParentStatus, now metav1.Time) []metav1.Condition {
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

// shorten keeps a message within what the schema of conditions allows, 32,768 characters.
func shorten(message string) string {
	const limit, end = 32768, " …"
	if runes := []rune(message); len(runes) > limit {
		return string(runes[:limit-len(end)]) + end
	}
	return message
}
