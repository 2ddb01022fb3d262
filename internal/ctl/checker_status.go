package ctl

import (
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// checkAttached reports parents that do not accept a route of the files, on all of their ports or on some.
func (c *checker) checkAttached(statuses []mesh.Status) {
	for _, s := range statuses {
		o := c.byName[s.Object.String()]
		if o == nil {
			continue
		}
		field := fmt.Sprintf("spec.parentRefs[%d]", parentIndex(o, s.Ref))
		accepted := s.Conditions[0]
		parent, _ := mesh.GatewayParent(s.Object.Key, s.Ref)
		switch {
		case accepted.Reason == gatewayv1.RouteReasonUnsupportedValue && len(c.after.faults(s.Object)) > 0:
			// told already
		case !accepted.True && withField.MatchString(accepted.Message):
			c.told(o, severityError, field, accepted.Message, string(accepted.Reason))
		case accepted.Reason == gatewayv1.RouteReasonNotAllowedByListeners && c.guessed(parent, s.Object.Namespace):
			c.add(o.finding(severityWarning, field, string(s.Ref.Name),
				fmt.Sprintf("%s; the labels of namespace %s are not known (%s)", accepted.Message, s.Object.Namespace, accepted.Reason), ""))
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
	return slices.IndexFunc(parentsOf(o.Object), func(p gatewayv1.ParentReference) bool { return equality.Semantic.DeepEqual(p, ref) })
}

// parentsOf returns the parents of a route; other objects have none.
func parentsOf(o any) []gatewayv1.ParentReference {
	switch r := o.(type) {
	case *gatewayv1.HTTPRoute:
		return r.Spec.ParentRefs
	case *gatewayv1.GRPCRoute:
		return r.Spec.ParentRefs
	case *gatewayv1.TLSRoute:
		return r.Spec.ParentRefs
	case *gatewayv1.TCPRoute:
		return r.Spec.ParentRefs
	case *gatewayv1.UDPRoute:
		return r.Spec.ParentRefs
	}
	return nil
}

// checkReferences reports backends, mirrors and filters of the files' routes that cannot be used.
func (c *checker) checkReferences(unresolved []mesh.Unresolved) {
	for _, u := range unresolved {
		if o := c.byName[u.Route.String()]; o != nil {
			c.add(o.finding(severityError, u.Field, "", fmt.Sprintf("%s (%s)", u.Problem, u.Reason), ""))
		}
	}
}

// checkBroken reports what the files break in routes and Gateways of the cluster: a missing backend port, a Service port that a
// route of a preceding kind takes over, or a listener without its certificate.
func (c *checker) checkBroken() {
	for _, parent := range c.after.parents() {
		c.checkBrokenStatuses(c.before.routes(parent), c.after.routes(parent))
	}
	for _, key := range c.after.Gateways() {
		id := mesh.ID{Kind: mesh.KindGateway, Key: key}
		c.checkBrokenStatuses(c.before.result.Statuses[id], c.after.result.Statuses[id])
	}
}

func (c *checker) checkBrokenStatuses(before, after []mesh.Status) {
	for _, s := range after {
		if c.byName[s.Object.String()] != nil {
			continue
		}
		i := slices.IndexFunc(before, func(o mesh.Status) bool { return o.Object == s.Object && equality.Semantic.DeepEqual(o.Ref, s.Ref) })
		if i < 0 {
			continue
		}
		old := ownConditions(before[i])
		for _, b := range ownConditions(s) {
			if slices.ContainsFunc(old, func(o badCondition) bool { return o.Type == b.Type && o.listener == b.listener }) {
				continue
			}
			listener := ""
			if b.listener != "" {
				listener = fmt.Sprintf("listener %s: ", b.listener)
			}
			c.add(finding{
				Severity: severityError, Object: s.Object.String(),
				Problem: fmt.Sprintf("broken by the files: %s%s (%s)", listener, b.Message, b.Reason),
			})
		}
	}
}
