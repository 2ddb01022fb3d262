package mesh

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// attempt is one parent reference of a route to the Service.
type attempt struct {
	route *route
	ref   gatewayv1.ParentReference
	// groups that the route joined.
	groups []group
	// refusal is why the route joined none.
	refusal *Condition
}

// attach puts a route into the groups of the ports that its parent reference names. A route in the
// Service's namespace is a producer route, any other a consumer route.
// https://gateway-api.sigs.k8s.io/geps/gep-1294/#namespace-boundaries
func (b *builder) attach(r *route, ref gatewayv1.ParentReference) attempt {
	a := attempt{route: r, ref: ref}
	refuse := func(format string, args ...any) attempt {
		a.refusal = &Condition{Type: gatewayv1.RouteConditionAccepted, Reason: gatewayv1.RouteReasonNoMatchingParent, Message: fmt.Sprintf(format, args...)}
		return a
	}
	if a.refusal = b.in.unusable(r); a.refusal != nil {
		return a
	}
	svc, exists := b.in.Services[b.parent]
	switch {
	case r.Kind == KindUDPRoute:
		return refuse("Service %s: sidecars leave UDP alone, so a UDPRoute is for a Gateway", b.parent)
	case !exists:
		return refuse("Service %s does not exist", b.parent)
	case svc == nil || !svc.Captured(): // gateways may send to it all the same
		// "SHOULD NOT be supported as a parentRef": headless and ExternalName Services have no frontend.
		// https://gateway-api.sigs.k8s.io/geps/gep-1294/#allowed-service-types
		return refuse("Service %s has no cluster IP with a TCP port: sidecars cannot recognize calls to it", b.parent)
	}
	ports := named(svc, ref)
	if len(ports) == 0 {
		return refuse("Service %s has no port%s; it has %s", b.parent, asked(ref), listPorts(svc.Ports))
	}
	takes := func(p Port) bool { return p.routable() || r.Kind.OfConnections() }
	if !slices.ContainsFunc(ports, takes) {
		return refuse("Service %s: port %s is opaque TCP; declare HTTP by its appProtocol or its name, or use a TCPRoute", b.parent, listPorts(ports))
	}
	g := group{}
	if r.Namespace != b.parent.Namespace {
		g.namespace = r.Namespace
	}
	for _, p := range ports {
		if !takes(p) {
			continue
		}
		g.port = p.Number
		a.groups = append(a.groups, g)
		joined := b.attached[g]
		if joined == nil {
			joined = &attachment{}
			b.attached[g] = joined
		}
		if !slices.Contains(joined.routes, r) { // two references may name the same port
			joined.routes = append(joined.routes, r)
		}
	}
	return a
}

// routable reports whether routes of requests can attach to the port. A port that is passed on as bytes has no requests.
func (p Port) routable() bool { return p.Protocol != TCP }

// named returns the ports that a reference names: all, or the one with its port number and section name.
// https://gateway-api.sigs.k8s.io/reference/spec/#parentreference
func named(svc *Service, ref gatewayv1.ParentReference) []Port {
	var out []Port
	for _, p := range svc.Ports {
		if (ref.Port == nil || uint16(*ref.Port) == p.Number) && (ref.SectionName == nil || string(*ref.SectionName) == p.Name) {
			out = append(out, p)
		}
	}
	return out
}

func asked(ref gatewayv1.ParentReference) string {
	text := ""
	if ref.Port != nil {
		text += fmt.Sprintf(" %d", *ref.Port)
	}
	if ref.SectionName != nil {
		text += fmt.Sprintf(" named %q", *ref.SectionName)
	}
	return text
}

func listPorts(ports []Port) string {
	if len(ports) == 0 {
		return "none"
	}
	text := ""
	for i, p := range ports {
		if i > 0 {
			text += ", "
		}
		text += fmt.Sprint(p.Number)
		if p.Name != "" {
			text += fmt.Sprintf(" (%s)", p.Name)
		}
	}
	return text
}
