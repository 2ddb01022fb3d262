package mesh

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Fault is something in a route or policy that cannot be used, whatever other objects exist. The conditions Accepted and
// PartiallyInvalid have all faults in one sentence.
type Fault struct {
	// Field is the path from the object, Value its value, Want what is allowed.
	Field, Value, Want string
	// Rule is the index of the route's rule that is dropped because of the fault.
	Rule int
	// WholeRoute is true if the route is not accepted at all.
	WholeRoute bool
}

func (f Fault) String() string { return fault{field: f.Field, value: f.Value, want: f.Want}.String() }

// HTTPRouteFaults returns the faults of an HTTPRoute, in the order of its fields.
func HTTPRouteFaults(o *gatewayv1.HTTPRoute) []Fault { return readHTTPRoute(o).found() }

// GRPCRouteFaults is HTTPRouteFaults for a GRPCRoute.
func GRPCRouteFaults(o *gatewayv1.GRPCRoute) []Fault { return readGRPCRoute(o).found() }

// TLSRouteFaults is HTTPRouteFaults for a TLSRoute.
func TLSRouteFaults(o *gatewayv1.TLSRoute) []Fault { return readTLSRoute(o).found() }

// TCPRouteFaults is HTTPRouteFaults for a TCPRoute.
func TCPRouteFaults(o *gatewayv1.TCPRoute) []Fault { return readTCPRoute(o).found() }

func (r *route) found() []Fault {
	var out []Fault
	add := func(f fault, rule int, whole bool) {
		out = append(out, Fault{Field: f.field, Value: f.value, Want: f.want, Rule: rule, WholeRoute: whole})
	}
	inRules := map[fault]bool{}
	for i, rule := range r.rules {
		for _, f := range rule.faults {
			inRules[f] = true
			// A route that is not accepted loses all its rules, including those without a fault.
			add(f, i, len(r.faults) > 0)
		}
	}
	for _, f := range r.faults { // finish repeats some of the rules' faults here
		if !inRules[f] {
			add(f, -1, true)
		}
	}
	return out
}

// Unresolved is a reference or filter of a route that cannot be used. The condition ResolvedRefs has all of them in one
// sentence.
type Unresolved struct {
	Route  ID
	Reason gatewayv1.RouteConditionReason
	// Field is the path from the object, Problem a sentence about its value.
	Field, Problem string
}

// UnresolvedRefs returns the unresolved references of all routes that name the Service as a parent, in the order of
// BuildRoutes. in is the argument of BuildRoutes.
func UnresolvedRefs(parent Key, in RouteInputs) []Unresolved {
	b := builder{in: in, parent: parent}
	var out []Unresolved
	for _, r := range readRoutes(in) {
		for _, ref := range r.parents {
			if key, ok := parentKey(r.Key, ref); !ok || key != parent {
				continue
			}
			for _, u := range b.unresolved(r) {
				out = append(out, Unresolved{r.ID, u.reason, u.field, u.problem})
			}
			break // each route once, even if several references name the Service
		}
	}
	return out
}

// SaidBy is a place with settings of calls.
type SaidBy struct {
	// Object is the route or the Service.
	Object string
	// Suffix of the annotations' keys: "." and the name of the rule, or nothing.
	Suffix string
	// Fields is true if the place is the rule's own fields, not annotations.
	Fields bool
	Calls  config.Calls
}

// CallSources returns the places with settings for the calls of a rule, the strongest first. Each setting of a Rule comes
// from the first place that has it. in is the argument of BuildRoutes.
func CallSources(o Origin, svc *Service, in RouteInputs) []SaidBy {
	var out []SaidBy
	route := o.Route.String()
	add := func(annotations map[string]string, names []string) {
		whole, byRule, _ := config.CallsOf(config.OnRoute, annotations, names)
		if o.Name != "" {
			out = append(out, SaidBy{Object: route, Suffix: "." + o.Name, Calls: byRule[o.Name]})
		}
		out = append(out, SaidBy{Object: route, Calls: whole})
	}
	for _, r := range in.HTTPRoutes {
		if o.Route == (ID{KindHTTPRoute, Key{r.Namespace, r.Name}}) && o.Rule < len(r.Spec.Rules) {
			own := readHTTPCalls("", r.Spec.Rules[o.Rule], &faults{})
			out = append(out, SaidBy{Object: route, Fields: true, Calls: own})
			add(r.Annotations, []string{o.Name})
		}
	}
	for _, r := range in.GRPCRoutes {
		if o.Route == (ID{KindGRPCRoute, Key{r.Namespace, r.Name}}) {
			add(r.Annotations, []string{o.Name})
		}
	}
	return append(out, SaidBy{Object: fmt.Sprintf("Service %s", svc.Key), Calls: svc.Calls})
}
