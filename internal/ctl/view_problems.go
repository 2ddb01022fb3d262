package ctl

import (
	"cmp"
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// problemsOf returns the Service's own problems, and those from the conditions of its routes, one by one.
func (w *world) problemsOf(key mesh.Key) []problemView {
	var out []problemView
	for _, p := range w.problems(key) {
		out = append(out, problemView{
			Object: "Service " + key.String(), Reason: p.Reason,
			Message: fmt.Sprintf("%s: %q: %s; want %s", p.Field, p.Value, p.Effect, p.Allowed),
		})
	}
	for _, s := range w.routes(key) {
		for _, c := range s.Conditions {
			if c.Bad() {
				out = append(out, w.problemsOfCondition(s, c)...)
			}
		}
	}
	for _, u := range mesh.UnresolvedRefs(key, w.Inputs(key)) {
		out = append(out, problemView{Object: u.Route.String(), Reason: string(u.Reason), Message: u.Field + ": " + u.Problem})
	}
	out = append(out, w.policyProblems(key)...)
	slices.SortStableFunc(out, func(a, b problemView) int { return cmp.Compare(a.Object, b.Object) })
	return slices.Compact(out)
}

// problemsOfCondition splits a message that consists of several.
func (w *world) problemsOfCondition(s mesh.Status, c mesh.Condition) []problemView {
	view := problemView{Object: s.Object.String(), Reason: string(c.Reason), Message: c.Message}
	switch {
	case c.Type == gatewayv1.RouteConditionResolvedRefs:
		return nil // UnresolvedRefs has them
	case c.Type == gatewayv1.RouteConditionPartiallyInvalid:
		view.Reason = string(c.Type)
	case c.Reason != gatewayv1.RouteReasonUnsupportedValue:
		view.Parent = parentText(s.Ref)
		return []problemView{view}
	}
	var out []problemView
	for _, f := range w.faults(s.Object) {
		view.Message = f.String()
		out = append(out, view)
	}
	return out
}

// parentText names the port of the Service, or the listener or port of the Gateway, to which a reference refers.
func parentText(ref gatewayv1.ParentReference) string {
	_, gateway := mesh.GatewayParent(mesh.Key{}, ref)
	switch {
	case gateway && ref.SectionName != nil:
		return fmt.Sprintf("listener %q", *ref.SectionName)
	case ref.Port != nil:
		return fmt.Sprintf("port %d", *ref.Port)
	case ref.SectionName != nil:
		return fmt.Sprintf("port %q", *ref.SectionName)
	default:
		return ""
	}
}
