package mesh

import (
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// condition returns a condition of any object of the Gateway API; its constants have types of their own.
func condition[T, R ~string](kind T, is bool, reason R, message string) Condition {
	return Condition{Type: gatewayv1.RouteConditionType(kind), True: is, Reason: gatewayv1.RouteConditionReason(reason), Message: message}
}

// gatewayStatus returns the status of the Gateway itself.
func (b *gatewayBuilder) gatewayStatus() Status {
	accepted := b.gatewayAccepted()
	programmed := b.programmed(accepted)
	s := Status{Object: b.id, Generation: b.in.Gateway.Generation, Gateway: &GatewayStatus{Addresses: b.in.Deployed.Addresses}}
	s.Conditions = []Condition{accepted, programmed, b.gatewayRefs()}
	if c, insecure := b.insecure(); insecure {
		s.Conditions = append(s.Conditions, c)
	}
	s.Gateway.Listeners = b.listenerStatuses(b.id, programmed.True)
	for _, set := range b.sets {
		if b.setAccepted(set).True {
			s.Gateway.AttachedListenerSets++
		}
	}
	return s
}

func (b *gatewayBuilder) gatewayAccepted() Condition {
	refuse := func(reason gatewayv1.GatewayConditionReason, format string, args ...any) Condition {
		return condition(gatewayv1.GatewayConditionAccepted, false, reason, fmt.Sprintf(format, args...))
	}
	if _, err := GatewayAddresses(b.in.Gateway); err != nil {
		return refuse(gatewayv1.GatewayReasonUnsupportedAddress, "%s", err)
	}
	if b.in.ParametersError != nil {
		return refuse(gatewayv1.GatewayReasonInvalidParameters, "%s", b.in.ParametersError)
	}
	var bad []string
	good := len(b.listeners) == 0
	for _, l := range b.listeners {
		switch {
		case l.from != b.id:
			good = good || l.accepted == nil && l.conflicted == nil
		case l.accepted != nil || l.conflicted != nil:
			bad = append(bad, string(l.Name))
		default:
			good = true
		}
	}
	if len(bad) > 0 {
		c := refuse(gatewayv1.GatewayReasonListenersNotValid, "listeners that cannot be served: %s; their conditions say why", strings.Join(bad, ", "))
		c.True = good
		return c
	}
	return condition(gatewayv1.GatewayConditionAccepted, true, gatewayv1.GatewayReasonAccepted, "the Gateway is served")
}

// programmed says whether traffic arrives: the Service has its addresses, and a pod is ready.
func (b *gatewayBuilder) programmed(accepted Condition) Condition {
	refuse := func(reason gatewayv1.GatewayConditionReason, format string, args ...any) Condition {
		return condition(gatewayv1.GatewayConditionProgrammed, false, reason, fmt.Sprintf(format, args...))
	}
	if err := b.checkService(); err != nil {
		return refuse(gatewayv1.GatewayReasonAddressNotUsable, "%s", err)
	}
	has := b.in.Deployed.Addresses
	for i, want := range b.in.Gateway.Spec.Addresses {
		if want.Value != "" && !slices.ContainsFunc(has, func(a gatewayv1.GatewayStatusAddress) bool { return a.Value == want.Value }) {
			return refuse(gatewayv1.GatewayReasonAddressNotUsable, "spec.addresses[%d].value: %q: the Gateway's Service did not get this address", i, want.Value)
		}
	}
	switch {
	case !accepted.True:
		return refuse(gatewayv1.GatewayReasonInvalid, "the Gateway is not accepted")
	case len(has) == 0:
		return refuse(gatewayv1.GatewayReasonAddressNotAssigned, "the Gateway's Service has no address yet")
	case !b.in.Deployed.Ready:
		return refuse(gatewayv1.GatewayReasonPending, "no pod of the Gateway is ready yet")
	}
	return condition(gatewayv1.GatewayConditionProgrammed, true, gatewayv1.GatewayReasonProgrammed, "the Gateway's pods are ready at its addresses")
}

func (b *gatewayBuilder) gatewayRefs() Condition {
	if b.client != nil {
		return *b.client
	}
	var bad []string
	for _, l := range b.listeners {
		if l.from == b.id && l.refs != nil {
			bad = append(bad, string(l.Name))
		}
	}
	if len(bad) > 0 {
		return condition(gatewayv1.GatewayConditionResolvedRefs, false, gatewayv1.GatewayReasonListenersNotResolved,
			fmt.Sprintf("listeners with references that cannot be resolved: %s; their conditions say why", strings.Join(bad, ", ")))
	}
	return condition(gatewayv1.GatewayConditionResolvedRefs, true, gatewayv1.GatewayReasonResolvedRefs, "all references are resolved")
}

// insecure warns of ports at which clients without a valid certificate are let in, though CAs are named.
func (b *gatewayBuilder) insecure() (Condition, bool) {
	var ports []string
	for _, l := range b.listeners {
		if l.tls != nil && l.tls.AllowInvalidClient && !slices.Contains(ports, fmt.Sprint(l.Port)) {
			ports = append(ports, fmt.Sprint(l.Port))
		}
	}
	return condition(gatewayv1.GatewayConditionInsecureFrontendValidationMode, true, gatewayv1.GatewayReasonConfigurationChanged,
		"clients without a valid certificate are let in at port "+strings.Join(ports, ", ")), len(ports) > 0
}

// listenerStatuses returns the statuses of the listeners of one object.
func (b *gatewayBuilder) listenerStatuses(from ID, programmed bool) []ListenerStatus {
	out := []ListenerStatus{}
	for _, l := range b.listeners {
		if l.from == from {
			out = append(out, ListenerStatus{Name: l.Name, Kinds: l.kinds, AttachedRoutes: int32(len(l.attached)), Conditions: l.conditions(programmed)})
		}
	}
	return out
}

func (l *listener) conditions(programmed bool) []Condition {
	accepted := condition(gatewayv1.ListenerConditionAccepted, true, gatewayv1.ListenerReasonAccepted, "the listener is valid")
	conflicted := condition(gatewayv1.ListenerConditionConflicted, false, gatewayv1.ListenerReasonNoConflicts, "no other listener takes the same traffic")
	refs := condition(gatewayv1.ListenerConditionResolvedRefs, true, gatewayv1.ListenerReasonResolvedRefs,
		strings.Join(append([]string{"all references are resolved"}, l.expiries...), "; "))
	ready := condition(gatewayv1.ListenerConditionProgrammed, true, gatewayv1.ListenerReasonProgrammed, "the listener is served")
	if l.accepted != nil {
		accepted = *l.accepted
	}
	if l.conflicted != nil {
		conflicted = *l.conflicted
		accepted = condition(gatewayv1.ListenerConditionAccepted, false, l.conflicted.Reason, l.conflicted.Message)
	}
	if l.refs != nil {
		refs = *l.refs
	}
	switch {
	case l.conflicted != nil:
		ready = condition(gatewayv1.ListenerConditionProgrammed, false, l.conflicted.Reason, l.conflicted.Message)
	case !l.served() || l.refs != nil:
		ready = condition(gatewayv1.ListenerConditionProgrammed, false, gatewayv1.ListenerReasonInvalid, "see the other conditions")
	case !programmed:
		ready = condition(gatewayv1.ListenerConditionProgrammed, false, gatewayv1.ListenerReasonPending, "the Gateway is not programmed yet")
	}
	out := []Condition{accepted, conflicted, refs, ready}
	if l.overlaps != nil {
		out = append(out, *l.overlaps)
	}
	return out
}

// setStatus returns the status of a ListenerSet.
func (b *gatewayBuilder) setStatus(set *listenerSet) Status {
	accepted := b.setAccepted(set)
	gateway := b.programmed(b.gatewayAccepted()).True
	programmed := condition(gatewayv1.ListenerSetConditionProgrammed, true, gatewayv1.ListenerSetReasonProgrammed, "the listeners are served")
	switch {
	case set.refusal != nil:
		programmed = condition(gatewayv1.ListenerSetConditionProgrammed, false, set.refusal.Reason, set.refusal.Message)
	case !accepted.True:
		programmed = condition(gatewayv1.ListenerSetConditionProgrammed, false, accepted.Reason, accepted.Message)
	case !gateway:
		programmed = condition(gatewayv1.ListenerSetConditionProgrammed, false, gatewayv1.ListenerSetReasonPending, fmt.Sprintf("%s is not programmed yet", b.id))
	}
	return Status{
		Object: set.id, Generation: set.Generation, Conditions: []Condition{accepted, programmed},
		Gateway: &GatewayStatus{Listeners: b.listenerStatuses(set.id, gateway)},
	}
}

func (b *gatewayBuilder) setAccepted(set *listenerSet) Condition {
	if set.refusal != nil {
		return *set.refusal
	}
	if gateway := b.gatewayAccepted(); !gateway.True && gateway.Reason != gatewayv1.RouteConditionReason(gatewayv1.GatewayReasonListenersNotValid) {
		return condition(gatewayv1.ListenerSetConditionAccepted, false, gatewayv1.ListenerSetReasonParentNotAccepted, fmt.Sprintf("%s is not accepted", b.id))
	}
	var bad []string
	good := false
	for _, l := range b.listeners {
		if l.from == set.id {
			if !l.served() {
				bad = append(bad, string(l.Name))
			} else {
				good = true
			}
		}
	}
	if len(bad) > 0 {
		return condition(gatewayv1.ListenerSetConditionAccepted, good, gatewayv1.ListenerSetReasonListenersNotValid,
			fmt.Sprintf("listeners that cannot be served: %s; their conditions say why", strings.Join(bad, ", ")))
	}
	return condition(gatewayv1.ListenerSetConditionAccepted, true, gatewayv1.ListenerSetReasonAccepted, fmt.Sprintf("the listeners are added to %s", b.id))
}

// routeStatus returns the status of one parent reference of a route.
func (b *gatewayBuilder) routeStatus(a gatewayAttempt) Status {
	return Status{Object: a.route.ID, Ref: a.ref, Generation: a.route.generation, Conditions: routeConditions(a.route.route, b.routeAccepted(a), a.route.resolved)}
}

func (b *gatewayBuilder) routeAccepted(a gatewayAttempt) Condition {
	if a.refusal != nil {
		return *a.refusal
	}
	var names []string
	for _, l := range a.listeners {
		names = append(names, string(l.Name))
	}
	message := fmt.Sprintf("attached to listener %s of %s", strings.Join(names, ", "), a.listeners[0].from)
	return condition(gatewayv1.RouteConditionAccepted, true, gatewayv1.RouteReasonAccepted, message)
}
