package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// listener is a listener of a Gateway, or of one of its ListenerSets, with what was found wrong with it.
type listener struct {
	gatewayv1.Listener
	// from is the Gateway or the ListenerSet.
	from ID
	host string
	bind uint16
	// kinds of routes that may attach.
	kinds []gatewayv1.RouteGroupKind
	tls   *ListenerTLS
	// accepted, conflicted, and refs are its conditions; a reason is set if it is not accepted, conflicted, or not resolved.
	accepted, conflicted, refs, overlaps *Condition
	attached                             []attached
	// expiries say when each certificate expires.
	expiries []string
}

// attached is a route that is attached to a listener, for some of its host names.
type attached struct {
	*BuiltRoute
	hosts []string
}

// served reports whether the listener gets traffic.
func (l *listener) served() bool {
	certificates := l.tls == nil || len(l.tls.Certificates) > 0
	return l.accepted == nil && l.conflicted == nil && certificates && len(l.kinds) > 0
}

func (l *listener) name() string { return ListenerName(l.from, l.Name) }

// ListenerName returns the Listener.Name of a listener of a Gateway or a ListenerSet.
func ListenerName(from ID, name gatewayv1.SectionName) string {
	if from.Kind == KindListenerSet {
		return from.Key.String() + "/" + string(name)
	}
	return string(name)
}

func (l *listener) udp() bool { return l.Protocol == gatewayv1.UDPProtocolType }

// kindsOf has the kinds of routes for each protocol.
// https://gateway-api.sigs.k8s.io/reference/spec/#protocoltype
var kindsOf = map[gatewayv1.ProtocolType][]Kind{
	gatewayv1.HTTPProtocolType:  {KindHTTPRoute, KindGRPCRoute},
	gatewayv1.HTTPSProtocolType: {KindHTTPRoute, KindGRPCRoute},
	gatewayv1.TLSProtocolType:   {KindTLSRoute, KindTCPRoute},
	gatewayv1.TCPProtocolType:   {KindTCPRoute},
	gatewayv1.UDPProtocolType:   {KindUDPRoute},
}

// readListeners returns the listeners of the Gateway, then those of the ListenerSets.
func (b *gatewayBuilder) readListeners() []*listener {
	var out []*listener
	for i, l := range b.in.Gateway.Spec.Listeners {
		out = append(out, b.readListener(b.id, fmt.Sprintf("spec.listeners[%d]", i), l))
	}
	for _, set := range b.sets {
		if set.refusal != nil {
			continue
		}
		for i, l := range set.Spec.Listeners {
			out = append(out, b.readListener(set.id, fmt.Sprintf("spec.listeners[%d]", i), gatewayv1.Listener(l)))
		}
	}
	findConflicts(out)
	findOverlaps(out)
	return out
}

func (b *gatewayBuilder) readListener(from ID, field string, o gatewayv1.Listener) *listener {
	l := &listener{Listener: o, from: from, host: strings.ToLower(string(deref(o.Hostname)))}
	refuse := func(reason gatewayv1.ListenerConditionReason, name string, value any, want string) {
		if l.accepted == nil {
			l.accepted = new(condition(gatewayv1.ListenerConditionAccepted, false, reason, fault{field: field + name, value: fmt.Sprint(value), want: want}.String()))
		}
	}
	supported, known := kindsOf[o.Protocol]
	if !known {
		refuse(gatewayv1.ListenerReasonUnsupportedProtocol, ".protocol", o.Protocol, "HTTP, HTTPS, TLS, TCP or UDP")
	}
	var ok bool
	if l.bind, ok = BindPort(uint16(o.Port)); !ok || o.Port != gatewayv1.PortNumber(uint16(o.Port)) {
		refuse(gatewayv1.ListenerReasonPortUnavailable, ".port", o.Port, fmt.Sprintf("1 to %d, and not that of the gateway's own health and metrics", firstShifted-1))
	}
	if l.host != "" && !validServerName(l.host) {
		refuse(gatewayv1.ListenerReasonUnsupportedValue, ".hostname", l.host, "a name such as shop.example.com, or *.example.com")
	}
	l.readKinds(field, supported)
	switch {
	case o.Protocol == gatewayv1.HTTPSProtocolType, o.Protocol == gatewayv1.TLSProtocolType && o.TLS == nil,
		o.Protocol == gatewayv1.TLSProtocolType && deref(o.TLS.Mode) != gatewayv1.TLSModePassthrough:
		b.readTLS(l, field+".tls", refuse)
	}
	return l
}

// readKinds finds the kinds of routes that a listener takes: "if an implementation does not support or recognize this resource type,
// it MUST set the ResolvedRefs condition to False for this Listener with the InvalidRouteKinds reason".
func (l *listener) readKinds(field string, supported []Kind) {
	l.kinds = []gatewayv1.RouteGroupKind{}
	add := func(k Kind) {
		l.kinds = append(l.kinds, gatewayv1.RouteGroupKind{Group: new(gatewayv1.Group(gatewayv1.GroupName)), Kind: gatewayv1.Kind(k)})
	}
	if l.AllowedRoutes == nil || len(l.AllowedRoutes.Kinds) == 0 {
		for _, k := range supported {
			if k != KindTCPRoute || l.Protocol == gatewayv1.TCPProtocolType { // behind TLS only if it is asked for
				add(k)
			}
		}
		return
	}
	for i, k := range l.AllowedRoutes.Kinds {
		ours := (k.Group == nil || *k.Group == gatewayv1.GroupName) && slices.Contains(supported, Kind(k.Kind))
		if k.Kind == gatewayv1.Kind(KindTCPRoute) && l.Protocol == gatewayv1.TLSProtocolType && l.TLS != nil && deref(l.TLS.Mode) == gatewayv1.TLSModePassthrough {
			ours = false // a connection that stays encrypted is known by its server name alone
		}
		if ours {
			add(Kind(k.Kind))
			continue
		}
		l.unresolved(gatewayv1.ListenerReasonInvalidRouteKinds, unresolvedRef{
			field: fmt.Sprintf("%s.allowedRoutes.kinds[%d]", field, i), problem: fmt.Sprintf("%q: want %s", k.Kind, orOf(supported)),
		})
	}
}

func orOf(kinds []Kind) string {
	texts := make([]string, len(kinds))
	for i, k := range kinds {
		texts[i] = string(k)
	}
	return cmp.Or(strings.Join(texts, " or "), "none, because the protocol is not supported")
}

// unresolved notes a reference that cannot be used. The first one decides the reason.
func (l *listener) unresolved(reason gatewayv1.ListenerConditionReason, u unresolvedRef) {
	if l.refs == nil {
		l.refs = new(condition(gatewayv1.ListenerConditionResolvedRefs, false, reason, u.String()))
		return
	}
	l.refs.Message += "; " + u.String()
}

// allows reports whether a route of a namespace may attach, as far as the listener's allowedRoutes go.
func (b *gatewayBuilder) allows(l *listener, r *route) bool {
	kind := slices.ContainsFunc(l.kinds, func(k gatewayv1.RouteGroupKind) bool { return Kind(k.Kind) == r.Kind })
	from, namespaces := gatewayv1.NamespacesFromSame, (*gatewayv1.RouteNamespaces)(nil)
	if l.AllowedRoutes != nil {
		namespaces = l.AllowedRoutes.Namespaces
	}
	if namespaces == nil {
		namespaces = &gatewayv1.RouteNamespaces{}
	}
	if namespaces.From != nil {
		from = *namespaces.From
	}
	return kind && selects(from, namespaces.Selector, l.from.Namespace, r.Namespace, b.in.Namespaces)
}

// findConflicts marks listeners between which a request or a connection cannot be told apart. Between objects those of the Gateway win,
// then those of the oldest ListenerSet. Of the others of one object all conflict: "the implementation MUST NOT pick one conflicting
// Listener as the winner".
// https://gateway-api.sigs.k8s.io/reference/spec/#gatewayspec
func findConflicts(all []*listener) {
	mark := func(l, other *listener, reason gatewayv1.ListenerConditionReason) {
		port := "port"
		if l.udp() != other.udp() {
			port = "UDP port" // of HTTP/3
		}
		if l.conflicted == nil {
			l.conflicted = new(condition(gatewayv1.ListenerConditionConflicted, true, reason,
				fmt.Sprintf("%s %d: listener %s of %s takes the same traffic", port, l.Port, other.Name, other.from)))
		}
	}
	for begin := 0; begin < len(all); {
		end := begin
		for end < len(all) && all[end].from == all[begin].from {
			end++
		}
		earlier, own := all[:begin], all[begin:end]
		for _, l := range own {
			for _, winner := range earlier {
				if reason := conflict(winner, l); reason != "" && winner.conflicted == nil {
					mark(l, winner, reason)
				}
			}
		}
		left := slices.DeleteFunc(slices.Clone(own), func(l *listener) bool { return l.conflicted != nil })
		for i, l := range left {
			for _, other := range left[:i] {
				if reason := conflict(other, l); reason != "" {
					mark(l, other, reason)
					mark(other, l, reason)
				}
			}
		}
		begin = end
	}
}

// conflict returns the reason for which two listeners cannot be told apart, or nothing.
func conflict(a, b *listener) gatewayv1.ListenerConditionReason {
	tls := func(p gatewayv1.ProtocolType) bool {
		return p == gatewayv1.HTTPSProtocolType || p == gatewayv1.TLSProtocolType
	}
	switch {
	case a.Port != b.Port:
		return ""
	case a.udp() != b.udp():
		if wantsHTTP3(a.Listener) || wantsHTTP3(b.Listener) {
			return gatewayv1.ListenerReasonProtocolConflict
		}
		return ""
	case a.Protocol != b.Protocol && (!tls(a.Protocol) || !tls(b.Protocol)):
		return gatewayv1.ListenerReasonProtocolConflict
	case a.host == b.host:
		return gatewayv1.ListenerReasonHostnameConflict
	}
	return ""
}

// findOverlaps marks listeners with TLS of which a client may use a connection for hosts of the other: "controllers MUST detect the
// presence of overlapping hostnames".
func findOverlaps(all []*listener) {
	for i, l := range all {
		for j, other := range all {
			if i == j || l.Protocol != gatewayv1.HTTPSProtocolType || other.Protocol != gatewayv1.HTTPSProtocolType || l.Port != other.Port || l.host == other.host {
				continue
			}
			if _, meet := hostsMeet(l.host, other.host); meet && l.overlaps == nil {
				l.overlaps = new(condition(gatewayv1.ListenerConditionOverlappingTLSConfig, true, gatewayv1.ListenerReasonOverlappingHostnames,
					fmt.Sprintf("listener %s has host names of this one; requests on a connection that was made for the other are answered with 421", other.Name)))
			}
		}
	}
}
