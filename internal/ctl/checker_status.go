package ctl

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// checkAttached reports parents that do not accept a route of the files, on all of their ports or on some.
func (c *checker) checkAttached(parent mesh.Key) {
	for _, s := range c.after.routes(parent) {
		o := c.byName[s.Object.String()]
		if o == nil {
			continue
		}
		field := fmt.Sprintf("spec.parentRefs[%d]", parentIndex(o, s.Ref))
		accepted := s.Conditions[0]
		switch {
		case accepted.Reason == gatewayv1.RouteReasonUnsupportedValue && len(c.after.faults(s.Object)) > 0:
			// told already
		case !accepted.True:
			c.add(o.finding(severityError, field, string(s.Ref.Name), fmt.Sprintf("%s (%s)", accepted.Message, accepted.Reason), ""))
		default:
			for _, lost := range s.Lost {
				c.add(o.finding(severityWarning, field, string(s.Ref.Name), lost.String(), ""))
			}
		}
	}
}

func parentIndex(o *fileObject, ref gatewayv1.ParentReference) int {
	var refs []gatewayv1.ParentReference
	switch r := o.Object.(type) {
	case *gatewayv1.HTTPRoute:
		refs = r.Spec.ParentRefs
	case *gatewayv1.GRPCRoute:
		refs = r.Spec.ParentRefs
	case *gatewayv1.TLSRoute:
		refs = r.Spec.ParentRefs
	case *gatewayv1.TCPRoute:
		refs = r.Spec.ParentRefs
	}
	return slices.IndexFunc(refs, func(p gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(p, ref) })
}

// checkReferences reports backends, mirrors and filters of the files' routes that cannot be used.
func (c *checker) checkReferences(parent mesh.Key) {
	for _, u := range mesh.UnresolvedRefs(parent, c.after.Inputs(parent)) {
		if o := c.byName[u.Route.String()]; o != nil {
			c.add(o.finding(severityError, u.Field, "", fmt.Sprintf("%s (%s)", u.Problem, u.Reason), ""))
		}
	}
}

// checkBroken reports what the files break in routes of the cluster: a missing backend port, or a Service port that a
// route of a preceding kind takes over.
func (c *checker) checkBroken() {
	for _, parent := range c.after.parents() {
		old := c.before.routes(parent)
		for _, s := range c.after.routes(parent) {
			if c.byName[s.Object.String()] != nil {
				continue
			}
			i := slices.IndexFunc(old, func(o mesh.Status) bool {
				return o.Object == s.Object && equality.Semantic.DeepEqual(o.Ref, s.Ref)
			})
			if i < 0 {
				continue
			}
			for j, condition := range s.Conditions {
				if j < len(old[i].Conditions) && old[i].Conditions[j].True && !condition.True {
					c.add(finding{
						Severity: severityError, Object: s.Object.String(),
						Problem: fmt.Sprintf("broken by the files: %s (%s)", condition.Message, condition.Reason),
					})
				}
			}
		}
	}
}
