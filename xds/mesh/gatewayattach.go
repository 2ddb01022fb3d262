package mesh

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// gatewayAttempt is one parent reference of a route to the Gateway or to one of its ListenerSets.
type gatewayAttempt struct {
	route *BuiltRoute
	ref   gatewayv1.ParentReference
	// listeners that the route is attached to.
	listeners []*listener
	// refusal is why it is attached to none.
	refusal *Condition
}

// attach attaches a route to the listeners that a parent reference names and that take it.
// https://gateway-api.sigs.k8s.io/concepts/api-overview/#attaching-routes-to-gateways
func (b *gatewayBuilder) attach(r *BuiltRoute, ref gatewayv1.ParentReference, parent ID) gatewayAttempt {
	a := gatewayAttempt{route: r, ref: ref}
	refuse := func(reason gatewayv1.RouteConditionReason, format string, args ...any) gatewayAttempt {
		a.refusal = &Condition{Type: gatewayv1.RouteConditionAccepted, Reason: reason, Message: fmt.Sprintf(format, args...)}
		return a
	}
	if a.refusal = b.in.Routes.unusable(r.route); a.refusal != nil {
		return a
	}
	if set := b.set(parent); set != nil && set.refusal != nil {
		return refuse(gatewayv1.RouteReasonNoMatchingParent, "%s is not accepted: %s", parent, set.refusal.Message)
	}
	var named, allowed []*listener
	for _, l := range b.listeners {
		if l.from == parent && (ref.SectionName == nil || *ref.SectionName == l.Name) && (ref.Port == nil || *ref.Port == l.Port) {
			named = append(named, l)
		}
	}
	if len(named) == 0 {
		return refuse(gatewayv1.RouteReasonNoMatchingParent, "%s has no listener%s; it has %s", parent, asked(ref), b.listListeners(parent))
	}
	for _, l := range named {
		if b.allows(l, r.route) {
			allowed = append(allowed, l)
		}
	}
	if len(allowed) == 0 {
		return refuse(gatewayv1.RouteReasonNotAllowedByListeners, "no listener of %s takes a %s of namespace %s: see the listeners' allowedRoutes", parent, r.Kind, r.Namespace)
	}
	for _, l := range allowed {
		if hosts := r.hostsAt(l); len(hosts) > 0 {
			a.listeners = append(a.listeners, l)
			if n := len(l.attached); n == 0 || l.attached[n-1].BuiltRoute != r { // two references may name one listener
				l.attached = append(l.attached, attached{r, hosts})
			}
		}
	}
	if len(a.listeners) == 0 {
		return refuse(gatewayv1.RouteReasonNoMatchingListenerHostname, "spec.hostnames: %s: want a name that one of these listeners has: %s", r.listHosts(), listHosts(allowed))
	}
	return a
}

// separate takes routes away from listeners where an older route of the other kind has one of their host names: "If a Route (A) of
// type HTTPRoute or GRPCRoute is attached to a Listener and that listener already has another Route (B) of the other type attached and
// the intersection of the hostnames of A and B is non-empty, then the implementation MUST accept exactly one of these two routes".
// https://gateway-api.sigs.k8s.io/reference/spec/#grpcroutespec
func (b *gatewayBuilder) separate(attempts []gatewayAttempt) {
	type place struct {
		*listener
		*BuiltRoute
	}
	lost := map[place]*BuiltRoute{}
	for _, l := range b.listeners {
		slices.SortStableFunc(l.attached, func(x, y attached) int { return compareAge(x.route, y.route) })
		older := map[Kind]*hostsOfRoutes{KindHTTPRoute: newHostsOfRoutes(), KindGRPCRoute: newHostsOfRoutes()}
		l.attached = slices.DeleteFunc(l.attached, func(a attached) bool {
			others := older[otherKind[a.Kind]]
			if others == nil {
				return false // there is no other kind
			}
			winner := others.oldest(a.hosts)
			if winner != nil {
				lost[place{l, a.BuiltRoute}] = winner
			} else {
				older[a.Kind].add(a)
			}
			return winner != nil
		})
	}
	for i := range attempts {
		a := &attempts[i]
		var winner *BuiltRoute
		a.listeners = slices.DeleteFunc(a.listeners, func(l *listener) bool {
			older, is := lost[place{l, a.route}]
			if is {
				winner = older
			}
			return is
		})
		if winner != nil && len(a.listeners) == 0 {
			a.refusal = new(condition(gatewayv1.RouteConditionAccepted, false, RouteReasonConflicted,
				fmt.Sprintf("spec.hostnames: the older %s has one of these host names at the same listener, which takes only one of HTTPRoute and GRPCRoute for a host name", winner.ID)))
		}
	}
}

// otherKind has the kinds of which a listener takes only one for a host name.
var otherKind = map[Kind]Kind{KindHTTPRoute: KindGRPCRoute, KindGRPCRoute: KindHTTPRoute}

// hostsOfRoutes finds routes by their host names, without a look at each of them: a listener may have thousands.
type hostsOfRoutes struct {
	// routes from the oldest on. named has the place there of the oldest route with a host name, and below that of the oldest with a host
	// name for which this one stands, too.
	routes       []*BuiltRoute
	named, below map[string]int
}

func newHostsOfRoutes() *hostsOfRoutes {
	return &hostsOfRoutes{named: map[string]int{}, below: map[string]int{}}
}

// add adds a route that is not older than those that are there.
func (h *hostsOfRoutes) add(a attached) {
	first := func(of map[string]int, host string) {
		if _, has := of[host]; !has {
			of[host] = len(h.routes)
		}
	}
	for _, host := range a.hosts {
		first(h.named, host)
		for _, wider := range HostCovering(host) {
			first(h.below, wider)
		}
	}
	h.routes = append(h.routes, a.BuiltRoute)
}

// oldest returns the oldest route with a host name that meets one of these, or nil.
func (h *hostsOfRoutes) oldest(hosts []string) *BuiltRoute {
	found := len(h.routes)
	look := func(of map[string]int, host string) {
		if i, has := of[host]; has {
			found = min(found, i)
		}
	}
	for _, host := range hosts {
		look(h.below, host)
		for _, wider := range HostCovering(host) {
			look(h.named, wider)
		}
	}
	if found == len(h.routes) {
		return nil
	}
	return h.routes[found]
}

// hostsAt returns the host names for which a route is attached to a listener.
func (r *route) hostsAt(l *listener) []string {
	own := make([]string, 0, len(r.hostnames))
	for _, h := range r.hostnames {
		own = append(own, strings.ToLower(string(h)))
	}
	if r.Kind == KindTLSRoute {
		own = r.serverNames
	}
	if len(own) == 0 || r.Kind == KindTCPRoute || r.Kind == KindUDPRoute {
		return []string{l.host}
	}
	var out []string
	for _, h := range own {
		if meet, ok := hostsMeet(l.host, h); ok {
			out = append(out, meet)
		}
	}
	return uniqueNames(out)
}

func (r *route) listHosts() string {
	var texts []string
	for _, h := range r.hostnames {
		texts = append(texts, fmt.Sprintf("%q", h))
	}
	if r.Kind == KindTLSRoute {
		texts = r.serverNames
	}
	return strings.Join(texts, ", ")
}

func listHosts(listeners []*listener) string {
	var texts []string
	for _, l := range listeners {
		texts = append(texts, fmt.Sprintf("%q (%s)", l.host, l.Name))
	}
	return strings.Join(texts, ", ")
}

func (b *gatewayBuilder) listListeners(parent ID) string {
	var texts []string
	for _, l := range b.listeners {
		if l.from == parent {
			texts = append(texts, fmt.Sprintf("%s (port %d)", l.Name, l.Port))
		}
	}
	return cmp.Or(strings.Join(texts, ", "), "none")
}

// hosts returns the virtual hosts of a listener for requests.
func (b *gatewayBuilder) hosts(l *listener) []VirtualHost {
	rules := map[string][]Rule{l.host: nil}
	for _, a := range l.attached {
		for _, host := range a.hosts {
			rules[host] = append(rules[host], a.rules...)
		}
	}
	var out []VirtualHost
	for host, list := range rules {
		slices.SortFunc(list, compareRules)
		out = append(out, VirtualHost{host, list})
	}
	slices.SortFunc(out, func(x, y VirtualHost) int { return cmp.Compare(x.Name, y.Name) })
	return out
}

// connections returns the rules of a listener for connections: for each server name those of the oldest route, and of TCPRoutes and
// UDPRoutes the oldest one's. What is attached is sorted by age (separate).
func (b *gatewayBuilder) connections(l *listener) []Rule {
	var out []Rule
	taken := map[string]bool{}
	for _, a := range l.attached {
		hosts := a.hosts
		if a.Kind != KindTLSRoute {
			hosts = []string{l.host}
		}
		for _, host := range hosts {
			if taken[host] || len(a.rules) == 0 {
				continue
			}
			taken[host] = true
			rule := a.ruleFor(l.host, host)
			if l.Protocol == gatewayv1.TLSProtocolType {
				rule.Match = serverName(host)
			}
			out = append(out, rule)
		}
	}
	slices.SortFunc(out, compareRules)
	return out
}

// ruleFor returns the rule for connections to a host name at a listener of listenerHost: that with the host name of the route that
// results in it there, or the only one.
func (a attached) ruleFor(listenerHost, host string) Rule {
	for _, r := range a.rules {
		if r.Match.TLS == nil {
			continue
		}
		if meet, ok := hostsMeet(listenerHost, r.Match.TLS.ServerName); ok && meet == host {
			return r
		}
	}
	return a.rules[0]
}
