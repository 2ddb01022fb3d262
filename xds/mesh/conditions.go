package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// Condition is a condition in a status. The writer adds the generation and the time.
type Condition struct {
	Type    gatewayv1.RouteConditionType
	True    bool
	Reason  gatewayv1.RouteConditionReason
	Message string
}

// negative are the conditions that are bad if they are true.
var negative = []gatewayv1.RouteConditionType{
	gatewayv1.RouteConditionPartiallyInvalid,
	gatewayv1.RouteConditionType(gatewayv1.ListenerConditionConflicted),
	gatewayv1.RouteConditionType(gatewayv1.ListenerConditionOverlappingTLSConfig),
	gatewayv1.RouteConditionType(gatewayv1.GatewayConditionInsecureFrontendValidationMode),
}

// Bad reports whether the condition says that something is wrong.
func (c Condition) Bad() bool { return c.True == slices.Contains(negative, c.Type) }

// RouteReasonConflicted is GEP-1294's reason for a route of a kind that has no effect on the port. The API's Go package
// has no constant for it.
const RouteReasonConflicted gatewayv1.RouteConditionReason = "Conflicted"

// status returns the conditions of one parent reference. All routes must be attached before.
func (b *builder) status(a attempt) Status {
	s := Status{Object: a.route.ID, Ref: a.ref, Generation: a.route.generation, Lost: b.lost(a)}
	s.Conditions = routeConditions(a.route, b.accepted(a), b.resolvedRefs(a.route))
	return s
}

// routeConditions returns those of a route for one of its parents.
func routeConditions(r *route, accepted, resolved Condition) []Condition {
	out := []Condition{accepted, resolved}
	if dropped := droppedRules(r); accepted.True && dropped != "" {
		out = append(out, Condition{Type: gatewayv1.RouteConditionPartiallyInvalid, True: true, Reason: gatewayv1.RouteReasonUnsupportedValue, Message: dropped})
	}
	return out
}

// unusable returns why a route can be attached to no parent at all, or nil.
func (in RouteInputs) unusable(r *route) *Condition {
	why, refused := in.Refused[r.ID]
	if !refused && len(r.faults) == 0 {
		return nil
	}
	if !refused {
		why = r.faults.String()
	}
	return &Condition{Type: gatewayv1.RouteConditionAccepted, Reason: gatewayv1.RouteReasonUnsupportedValue, Message: why}
}

// accepted returns the condition Accepted: "an attachment is considered successful if at least one section in the parent
// resource accepts it".
func (b *builder) accepted(a attempt) Condition {
	if a.refusal != nil {
		return *a.refusal
	}
	var won, declared, taken, lost []string
	for _, g := range a.groups {
		if holder := b.attached[g].holder(a.route); holder != a.route {
			lost = append(lost, fmt.Sprintf("%s on port %d", holder.ID, g.port))
			continue
		}
		won = append(won, fmt.Sprint(g.port))
		if a.route.Kind.OfConnections() && b.declaredHTTP(g.port) {
			declared = append(declared, fmt.Sprint(g.port))
		}
		for _, t := range b.attached[g].taken(a.route) {
			taken = append(taken, fmt.Sprintf("%q on port %d, which belongs to %s", t.name, g.port, t.by.ID))
		}
	}
	why := kindOrder
	if a.route.Kind.OfConnections() {
		why += "; the oldest of several TCPRoutes wins, and so does the oldest of several TLSRoutes for one hostname"
	}
	conflicts := strings.Join(lost, ", ")
	if len(won) == 0 {
		return Condition{Type: gatewayv1.RouteConditionAccepted, Reason: RouteReasonConflicted, Message: fmt.Sprintf("not attached, because other routes take precedence: %s (%s)", conflicts, why)}
	}
	message := fmt.Sprintf("attached to Service %s, port %s", b.parent, strings.Join(won, ", "))
	if conflicts != "" {
		message += "; not attached where other routes take precedence: " + conflicts
	}
	if len(taken) > 0 {
		message += "; not attached for hostnames of older routes: " + strings.Join(taken, ", ")
	}
	if len(declared) > 0 {
		message += fmt.Sprintf("; port %s is declared HTTP, but this route balances its connections, not its requests",
			strings.Join(declared, ", "))
	}
	if len(a.route.hostnames) > 0 {
		message += "; spec.hostnames has no effect for a Service; match the header Host"
	}
	return Condition{Type: gatewayv1.RouteConditionAccepted, True: true, Reason: gatewayv1.RouteReasonAccepted, Message: message}
}

// lost returns the ports and hostnames where a route has no effect.
func (b *builder) lost(a attempt) []Lost {
	var out []Lost
	for _, g := range a.groups {
		if holder := b.attached[g].holder(a.route); holder != a.route {
			out = append(out, Lost{Port: g.port, Route: a.route.Kind, Holder: holder.ID})
			continue
		}
		for _, t := range b.attached[g].taken(a.route) {
			out = append(out, Lost{Port: g.port, Hostname: t.name, Route: a.route.Kind, Holder: t.by.ID})
		}
	}
	return out
}

func (b *builder) declaredHTTP(port uint16) bool {
	return slices.ContainsFunc(b.in.Services[b.parent].Ports, func(p Port) bool { return p.Number == port && p.Protocol == HTTP })
}

func (b resolver) resolvedRefs(r *route) Condition {
	problems := b.unresolved(r)
	if len(problems) == 0 {
		return Condition{
			Type: gatewayv1.RouteConditionResolvedRefs, True: true,
			Reason: gatewayv1.RouteReasonResolvedRefs, Message: "all references are resolved",
		}
	}
	texts := make([]string, len(problems))
	for i, p := range problems {
		texts[i] = p.String()
	}
	return Condition{
		Type: gatewayv1.RouteConditionResolvedRefs, Reason: problems[0].reason,
		Message: strings.Join(slices.Compact(texts), "; "),
	}
}

// droppedRules returns the message of PartiallyInvalid, which "MUST start with the prefix "Dropped Rule"".
func droppedRules(r *route) string {
	var texts []string
	for _, rule := range r.rules {
		if len(rule.faults) > 0 {
			texts = append(texts, fmt.Sprintf("%s: %s", cmp.Or(rule.origin.Name, fmt.Sprint(rule.origin.Rule)), rule.faults))
		}
	}
	if len(texts) == 0 {
		return ""
	}
	return "Dropped Rule " + strings.Join(texts, "; Dropped Rule ")
}
