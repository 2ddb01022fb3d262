package mesh

import (
	"cmp"
	"fmt"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// route is a route object before it is attached to a parent and before its references are resolved.
type route struct {
	ID
	created    time.Time
	generation int64
	parents    []gatewayv1.ParentReference
	// gateway is true if the route is read for a Gateway, not for Services.
	gateway bool
	// hostnames have no effect on Services: "GAMMA implementations SHOULD NOT infer any functionality" from them.
	// https://gateway-api.sigs.k8s.io/geps/gep-1294/#hostnames-field
	hostnames []gatewayv1.Hostname
	rules     []routeRule
	// serverNames are the hostnames of a TLSRoute, each once; one empty name for any.
	serverNames []string
	// faults that refuse the whole route.
	faults faults
	// calls are the settings of the route's annotations.
	calls config.Calls
}

// routeRule is a rule of a route.
type routeRule struct {
	origin  Origin
	matches []Match
	filters filters
	// backends in the order of the object.
	backends []backendRef
	calls    config.Calls
	session  *Session
	// faults drop the rule.
	faults faults
}

// backendRef is a reference to a backend, with its own filters.
type backendRef struct {
	field   string
	ref     gatewayv1.BackendObjectReference
	weight  int32
	filters filters
}

// finish handles what concerns all rules together: annotations, and faults for which the route is refused.
func (r *route) finish(annotations map[string]string) {
	var names []string
	for _, rule := range r.rules {
		if rule.origin.Name != "" {
			names = append(names, rule.origin.Name)
		}
	}
	whole, byRule, errs := config.CallsOf(config.OnRoute, annotations, names)
	for _, e := range errs {
		r.faults = append(r.faults, fault{field: fmt.Sprintf("metadata.annotations[%s]", e.Name), value: e.Value, want: e.Want, route: true})
	}
	r.calls = whole
	bad := 0
	for i := range r.rules {
		rule := &r.rules[i]
		rule.calls = rule.calls.Or(byRule[rule.origin.Name])
		if len(rule.faults) > 0 {
			bad++
		}
	}
	for _, rule := range r.rules {
		if bad == len(r.rules) || rule.faults.refuseRoute() {
			r.faults = append(r.faults, rule.faults...)
		}
	}
}

// readSession reads the rule's sessionPersistence.
func (r *routeRule) readSession(field string, o *gatewayv1.SessionPersistence, f *faults) {
	if o == nil {
		return
	}
	r.session = readSession(field, *o, r.origin.Route.String()+" "+cmp.Or(r.origin.Name, fmt.Sprint(r.origin.Rule)), f)
	r.session.ByRule = true
	if r.session.Header && len(r.backends) > 1 {
		// A header has one name for all backends, and its value does not say which backend it belongs to.
		f.add(field+".type", *o.Type, "Cookie, or one backend")
	}
}

func newRoute(kind Kind, namespace, name string, created time.Time, generation int64, parents []gatewayv1.ParentReference) *route {
	return &route{
		ID: ID{kind, Key{namespace, name}}, created: created, generation: generation, parents: parents,
	}
}

func (r *route) origin(i int, name *gatewayv1.SectionName) Origin {
	return Origin{Route: r.ID, Created: r.created, Rule: i, Name: string(deref(name))}
}

// newBackendRef reads a reference to a backend; its weight is 1 by default.
func newBackendRef(field string, ref gatewayv1.BackendRef, f *faults) backendRef {
	weight := int32(1)
	if ref.Weight != nil {
		weight = *ref.Weight
	}
	if weight < 0 || weight > maxWeight {
		f.add(field+".weight", weight, "0 to 1000000")
	}
	return backendRef{field: field, ref: ref.BackendObjectReference, weight: weight}
}

// maxWeight of a backend: https://gateway-api.sigs.k8s.io/reference/spec/#backendref
const maxWeight = 1_000_000

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}
