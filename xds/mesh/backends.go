package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// unresolvedRef is a reference that cannot be used, for the condition ResolvedRefs.
type unresolvedRef struct {
	reason gatewayv1.RouteConditionReason
	// field is the path from the object, problem what is wrong with its value.
	field, problem string
}

func (u unresolvedRef) String() string { return u.field + ": " + u.problem }

// resolver finds what routes refer to.
type resolver struct {
	// services and grants are those of RouteInputs.
	services map[Key]*Service
	grants   []*gatewayv1.ReferenceGrant
	// parent is the Service whose rules are built, or nil for those of a Gateway.
	parent *Key
}

// unresolved returns the references of a route that cannot be used, in the order of the object.
func (b resolver) unresolved(r *route) []unresolvedRef {
	var out []unresolvedRef
	look := func(field string, ref gatewayv1.BackendObjectReference) {
		if _, problem := b.resolve(r.ID, field, ref); problem != nil {
			out = append(out, *problem)
		}
	}
	for _, rule := range r.rules {
		out = append(out, rule.filters.unresolved...)
		if auth := rule.filters.auth; auth != nil {
			look(auth.field, auth.ref)
		}
		for _, m := range rule.filters.mirrors {
			look(m.field, m.ref)
		}
		for _, ref := range rule.backends {
			look(ref.field, ref.ref)
		}
	}
	return out
}

// resolve finds the Service port that a reference names.
// https://gateway-api.sigs.k8s.io/reference/spec/#httpbackendref
func (b resolver) resolve(r ID, field string, ref gatewayv1.BackendObjectReference) (Target, *unresolvedRef) {
	fail := func(reason gatewayv1.RouteConditionReason, format string, args ...any) (Target, *unresolvedRef) {
		return Target{}, &unresolvedRef{reason, field, fmt.Sprintf(format, args...)}
	}
	if group, kind := deref(ref.Group), ref.Kind; group != "" || (kind != nil && *kind != "Service") {
		return fail(gatewayv1.RouteReasonInvalidKind, "%s %q: want a Service of the core group", deref(kind), group)
	}
	key := Key{cmp.Or(string(deref(ref.Namespace)), r.Namespace), string(ref.Name)}
	if !b.permitted(r, key) {
		return fail(gatewayv1.RouteReasonRefNotPermitted,
			"Service %s: no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to it", key, key.Namespace, r.Kind, r.Namespace)
	}
	svc, exists := b.services[key]
	switch {
	case !exists:
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s does not exist", key)
	case svc == nil && b.parent == nil:
		return fail(gatewayv1.RouteReasonUnsupportedProtocol, "Service %s is of type ExternalName or has no port", key)
	case svc == nil || (b.parent != nil && !svc.Captured()):
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s has no cluster IP with a TCP port", key)
	}
	ports := svc.Ports
	if r.Kind == KindUDPRoute {
		ports = svc.UDP
	}
	if ref.Port == nil {
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s: want a port, one of %s", key, listPorts(ports))
	}
	i := slices.IndexFunc(ports, func(p Port) bool { return int32(p.Number) == *ref.Port })
	if i < 0 {
		return fail(gatewayv1.RouteReasonBackendNotFound, "Service %s has no port %d; it has %s", key, *ref.Port, listPorts(ports))
	}
	if b.parent != nil && !ports[i].routable() && !r.Kind.OfConnections() {
		return fail(gatewayv1.RouteReasonUnsupportedProtocol, "Service %s: port %d is opaque TCP", key, *ref.Port)
	}
	return svc.target(ports[i]), nil
}

// permitted reports whether a route may send to a Service. The route's own namespace and the parent's need no grant: a
// call to the parent stays in the namespace that it was meant for. For any other namespace the sources differ. GEP-1294
// requires no grant in a mesh "if a mesh implementation does expose the ability to access a broader scope"; the API
// reference requires one. We follow the API reference.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#namespace-boundaries
func (b resolver) permitted(r ID, backend Key) bool {
	if b.parent != nil && backend.Namespace == b.parent.Namespace {
		return true
	}
	return granted(b.grants, r, ID{KindService, backend})
}

// granted reports whether an object may refer to another one of the core group: one of its own namespace, or one that a grant names.
// https://gateway-api.sigs.k8s.io/api-types/referencegrant/
func granted(grants []*gatewayv1.ReferenceGrant, from, to ID) bool {
	if from.Namespace == to.Namespace {
		return true
	}
	return slices.ContainsFunc(grants, func(g *gatewayv1.ReferenceGrant) bool {
		return g.Namespace == to.Namespace &&
			slices.ContainsFunc(g.Spec.From, func(f gatewayv1.ReferenceGrantFrom) bool {
				return f.Group == gatewayv1.GroupName && string(f.Kind) == string(from.Kind) && string(f.Namespace) == from.Namespace
			}) &&
			slices.ContainsFunc(g.Spec.To, func(t gatewayv1.ReferenceGrantTo) bool {
				return t.Group == "" && string(t.Kind) == string(to.Kind) && (t.Name == nil || string(*t.Name) == to.Name)
			})
	})
}

// invalidStatus is the answer in place of an invalid backend: 500, or 503, which gRPC clients take for UNAVAILABLE. A
// connection is closed.
var invalidStatus = map[Kind]uint32{KindHTTPRoute: 500, KindGRPCRoute: 503}

// action resolves a rule's filters and backends.
func (b resolver) action(r *route, rule *routeRule) *Action {
	a := &Action{
		Redirect:        rule.filters.redirect,
		InvalidStatus:   invalidStatus[r.Kind],
		RequestHeaders:  rule.filters.request,
		ResponseHeaders: rule.filters.response,
		Rewrite:         rule.filters.rewrite,
	}
	if !r.Kind.OfConnections() {
		a.Calls = callPolicy(rule.calls.Or(r.calls).Or(b.serviceCalls(r, rule)))
	}
	if len(rule.filters.unresolved) > 0 {
		a.Redirect, a.Fail, a.FailReason = nil, a.InvalidStatus, "a filter is not supported"
		return a
	}
	if auth := rule.filters.auth; auth != nil {
		target, problem := b.resolve(r.ID, auth.field, auth.ref)
		if problem != nil {
			a.Redirect, a.Fail, a.FailReason = nil, a.InvalidStatus, "the server of its filter ExternalAuth cannot be found"
			return a
		}
		a.Auth = new(auth.ExternalAuth)
		a.Auth.Target = target
	}
	a.CORS = rule.filters.cors
	if a.Redirect != nil {
		return a
	}
	for _, m := range rule.filters.mirrors {
		if target, problem := b.resolve(r.ID, m.field, m.ref); problem == nil && m.perMillion > 0 {
			a.Mirrors = append(a.Mirrors, Mirror{target, m.perMillion})
		}
	}
	valid := false
	var all []Backend
	for _, ref := range rule.backends {
		target, problem := b.resolve(r.ID, ref.field, ref.ref)
		backend := Backend{Target: target, Weight: uint32(ref.weight), Valid: problem == nil}
		if own := ref.filters; !own.request.Empty() || !own.response.Empty() {
			backend.RequestHeaders = new(rule.filters.request.then(own.request))
			backend.ResponseHeaders = new(rule.filters.response.then(own.response))
		}
		if backend.Valid {
			backend.Session = b.session(rule, target)
		}
		valid = valid || (backend.Valid && backend.Weight > 0)
		all = append(all, backend)
	}
	if !valid {
		a.Fail, a.FailReason, a.Mirrors = a.InvalidStatus, "no valid backend with a weight above 0", nil
		a.Refuse = r.Kind.OfConnections()
		return a
	}
	a.Pinned = pin(all)
	a.Backends = slices.DeleteFunc(all, func(b Backend) bool { return b.Weight == 0 })
	return a
}

// serviceCalls returns the settings of the Services whose annotations count for the calls of a rule.
func (b resolver) serviceCalls(r *route, rule *routeRule) config.Calls {
	var out config.Calls
	for _, svc := range b.callServices(r, rule) {
		out = out.Or(svc.Calls)
	}
	return out
}

// callServices returns the Services whose annotations count for the calls of a rule, the strongest first: the parent Service. A
// Gateway has none, so the backends' count, the first one's first.
func (b resolver) callServices(r *route, rule *routeRule) []*Service {
	if b.parent != nil {
		if svc := b.services[*b.parent]; svc != nil {
			return []*Service{svc}
		}
		return nil
	}
	var out []*Service
	for _, ref := range rule.backends {
		if target, problem := b.resolve(r.ID, ref.field, ref.ref); problem == nil {
			out = append(out, b.services[target.Service])
		}
	}
	return out
}

// callPolicy returns the settings with defaults for those that are not set.
func callPolicy(c config.Calls) CallPolicy {
	p := CallPolicy{
		Timeout:        deref(c.Timeout),
		BackendTimeout: deref(c.BackendTimeout),
		RetryBackoff:   deref(c.RetryBackoff),
	}
	for _, on := range c.RetryOn {
		if code, err := strconv.ParseUint(on, 10, 16); err == nil {
			p.RetryStatuses = append(p.RetryStatuses, uint32(code))
		} else {
			p.RetryOn = append(p.RetryOn, on)
		}
	}
	slices.Sort(p.RetryStatuses)
	p.RetryStatuses = slices.Compact(p.RetryStatuses)
	switch {
	case c.RetryAttempts != nil:
		p.RetryAttempts = new(uint32(*c.RetryAttempts))
	case p.OptedIn():
		p.RetryAttempts = new(uint32(2))
	}
	return p
}
