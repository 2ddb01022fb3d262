package mesh

import (
	"fmt"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Fault is something in a route or policy that cannot be used, whatever else exists: what the conditions Accepted and
// PartiallyInvalid say in one sentence.
type Fault struct {
	// Field is the path from the object, Value what stands there, Want what may.
	Field, Value, Want string
	// Rule is the index of a route's rule that is dropped for it.
	Rule int
	// WholeRoute is set where the route is not accepted at all.
	WholeRoute bool
}

func (f Fault) String() string { return fault{field: f.Field, value: f.Value, want: f.Want}.String() }

// HTTPRouteFaults gives what is wrong with the object itself, in the order of its fields.
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
			// A route that is not accepted loses all of its rules, also those without a fault.
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

// Unresolved is a reference of a route, or a filter, that cannot be used: what the condition ResolvedRefs
// says in one sentence.
type Unresolved struct {
	Route  ID
	Reason gatewayv1.RouteConditionReason
	// Field is the path from the object, Problem a sentence on what stands there.
	Field, Problem string
}

// UnresolvedRefs gives them for all routes that name the Service as a parent, in BuildRoutes' order; in is
// what BuildRoutes gets.
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
			break // once, by however many references it names the Service
		}
	}
	return out
}

// SaidBy is a place in which settings of calls stand.
type SaidBy struct {
	// Object is the route or the Service.
	Object string
	// Suffix of the annotations' keys: "." and the name of the rule, or nothing.
	Suffix string
	// Fields is set where it is the rule's own fields, not annotations.
	Fields bool
	Calls  config.Calls
}

// CallSources are the places that say how the calls of a rule are made, the strongest first: the settings of
// a Rule are the first that each place says. in is what BuildRoutes got.
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
