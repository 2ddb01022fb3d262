package mesh

import (
	"slices"

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
func HTTPRouteFaults(o *gatewayv1.HTTPRoute) []Fault {
	return readHTTPRoute(o, ofGateway(o.Spec.ParentRefs)).found()
}

// GRPCRouteFaults is HTTPRouteFaults for a GRPCRoute.
func GRPCRouteFaults(o *gatewayv1.GRPCRoute) []Fault {
	return readGRPCRoute(o, ofGateway(o.Spec.ParentRefs)).found()
}

// TLSRouteFaults is HTTPRouteFaults for a TLSRoute.
func TLSRouteFaults(o *gatewayv1.TLSRoute) []Fault { return readTLSRoute(o).found() }

// TCPRouteFaults is HTTPRouteFaults for a TCPRoute.
func TCPRouteFaults(o *gatewayv1.TCPRoute) []Fault { return readTCPRoute(o).found() }

// UDPRouteFaults is HTTPRouteFaults for a UDPRoute.
func UDPRouteFaults(o *gatewayv1.UDPRoute) []Fault { return readUDPRoute(o).found() }

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
	var out []Unresolved
	for _, r := range readRoutes(in, false) {
		if slices.ContainsFunc(r.parents, func(ref gatewayv1.ParentReference) bool {
			key, ok := parentKey(r.Key, ref)
			return ok && key == parent
		}) {
			out = append(out, resolver{in.Services, in.Grants, &parent}.found(r)...)
		}
	}
	return out
}

// GatewayUnresolvedRefs is UnresolvedRefs for a Gateway. in is the argument of BuildGateway.
func GatewayUnresolvedRefs(in GatewayInputs) []Unresolved {
	var out []Unresolved
	for _, r := range readRoutes(in.Routes, true) {
		out = append(out, resolver{in.Routes.Services, in.Routes.Grants, nil}.found(r)...)
	}
	return out
}

func (b resolver) found(r *route) []Unresolved {
	var out []Unresolved
	for _, u := range b.unresolved(r) {
		out = append(out, Unresolved{r.ID, u.reason, u.field, u.problem})
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
// from the first place that has it. parent and in are the arguments of BuildRoutes, or nil and the routes of GatewayInputs.
func CallSources(o Origin, parent *Key, in RouteInputs) []SaidBy {
	var out []SaidBy
	add := func(annotations map[string]string, r *route) {
		object := o.Route.String()
		whole, byRule, _ := config.CallsOf(config.OnRoute, annotations, []string{o.Name})
		if o.Name != "" {
			out = append(out, SaidBy{Object: object, Suffix: "." + o.Name, Calls: byRule[o.Name]})
		}
		out = append(out, SaidBy{Object: object, Calls: whole})
		for _, svc := range (resolver{in.Services, in.Grants, parent}).callServices(r, &r.rules[o.Rule]) {
			out = append(out, SaidBy{Object: "Service " + svc.String(), Calls: svc.Calls})
		}
	}
	for _, r := range in.HTTPRoutes {
		if o.Route == (ID{KindHTTPRoute, Key{r.Namespace, r.Name}}) {
			if o.Rule < len(r.Spec.Rules) {
				out = append(out, SaidBy{Object: o.Route.String(), Fields: true, Calls: readHTTPCalls("", r.Spec.Rules[o.Rule], &faults{})})
			}
			add(r.Annotations, readHTTPRoute(r, parent == nil))
		}
	}
	for _, r := range in.GRPCRoutes {
		if o.Route == (ID{KindGRPCRoute, Key{r.Namespace, r.Name}}) {
			add(r.Annotations, readGRPCRoute(r, parent == nil))
		}
	}
	if o.Route.Name == "" { // the rule of a Service without routes (Implicit)
		out = append(out, SaidBy{Object: "Service " + parent.String(), Calls: in.Services[*parent].Calls})
	}
	return out
}
