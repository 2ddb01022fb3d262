package mesh

import (
	"cmp"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// ServedHost is a virtual host of the connections to some listeners.
type ServedHost struct {
	// Name is empty for any, a name in lower case, or "*." and a suffix.
	Name string
	// Rules in the order in which they are tried.
	Rules []Rule
	// Misdirected is true if the host belongs to another listener, with other connections.
	Misdirected bool
}

// ListenersFor returns the listeners whose requests a connection brings, or the one that passes it on; none if the socket does not
// take it. Among the listeners with TLS the server name decides, which is empty if the client sends none. The listeners for plain
// HTTP share their connections.
func (s Socket) ListenersFor(tls bool, serverName string) []Listener {
	var plain, encrypted []Listener
	for _, l := range s.Listeners {
		switch l.Protocol {
		case gatewayv1.HTTPSProtocolType, gatewayv1.TLSProtocolType:
			encrypted = append(encrypted, l)
		case gatewayv1.HTTPProtocolType:
			plain = append(plain, l)
		default: // the only one: others would be in conflict with it
			return []Listener{l}
		}
	}
	if !tls {
		return plain
	}
	if l, ok := ListenerOf(encrypted, serverName); ok {
		return []Listener{l}
	}
	return nil
}

// Hosts returns the virtual hosts of connections to some of a socket's listeners, sorted by name.
//
// A request belongs to the listener with the most specific host name that matches, and to no other one, even if that one has
// no rule for it. One that came over the connection of another listener is misdirected: the client used a connection again
// because its certificate is also good for this host.
// https://gateway-api.sigs.k8s.io/reference/spec/#listener
// https://gateway-api.sigs.k8s.io/geps/gep-3567/
func (s Socket) Hosts(of []Listener) []ServedHost {
	var out []ServedHost
	inChain := map[string]bool{}
	for _, l := range of {
		inChain[l.Name] = true
		rules := l.byHost()
		for _, h := range l.Hosts {
			if taker, _ := ListenerOf(s.Listeners, h.Name); taker.Name == l.Name {
				out = append(out, ServedHost{Name: h.Name, Rules: rules.tried(h.Name)})
			}
		}
	}
	for _, l := range s.Listeners {
		if !inChain[l.Name] {
			out = append(out, ServedHost{Name: l.Hostname, Misdirected: true})
		}
	}
	slices.SortStableFunc(out, func(a, b ServedHost) int { return cmp.Compare(a.Name, b.Name) })
	return slices.CompactFunc(out, func(a, b ServedHost) bool { return a.Name == b.Name })
}

// HostOf returns the virtual host of a request's host name: the most specific one that covers it, or nil. Such a request is
// answered with 404.
func HostOf(hosts []ServedHost, name string) *ServedHost {
	var out *ServedHost
	for i, h := range hosts {
		if HostCovers(h.Name, name) && (out == nil || CompareHosts(h.Name, out.Name) < 0) {
			out = &hosts[i]
		}
	}
	return out
}

// ListenerOf returns the listener that takes the requests to a host: that with the most specific host name that covers it.
func ListenerOf(listeners []Listener, name string) (taker Listener, found bool) {
	for _, l := range listeners {
		if HostCovers(l.Hostname, name) && (!found || CompareHosts(l.Hostname, taker.Hostname) < 0) {
			taker, found = l, true
		}
	}
	return taker, found
}

// RulesFor returns the rules that are tried for a virtual host: its own, and then those of less specific virtual hosts of the
// listener that match, too: "If an HTTP request matches multiple HTTPRoutes, precedence must be given to rules from the
// HTTPRoute with the largest number of characters in a matching hostname". Nothing comes after a rule for every request.
// https://gateway-api.sigs.k8s.io/reference/spec/#httproutespec
func (l Listener) RulesFor(name string) []Rule { return l.byHost().tried(name) }

// AllRulesFor is RulesFor with the rules that come after one for every request, and so are never tried.
func (l Listener) AllRulesFor(name string) []Rule { return l.byHost().all(name) }

// hostRules has the rules of each virtual host.
type hostRules map[string][]Rule

func (l Listener) byHost() hostRules {
	out := hostRules{}
	for _, h := range l.Hosts {
		out[h.Name] = h.Rules
	}
	return out
}

func (r hostRules) tried(name string) []Rule {
	rules := r.all(name)
	if i := slices.IndexFunc(rules, func(r Rule) bool { return r.Match.Every() }); i >= 0 {
		return rules[:i+1]
	}
	return rules
}

func (r hostRules) all(name string) []Rule {
	var out []Rule
	for _, host := range HostCovering(name) {
		out = append(out, r[host]...)
	}
	return out
}

// ConnectionRule returns the rule of a listener for connections with a server name, which is empty without TLS. It returns nil if
// there is none: such a connection is closed.
func (l Listener) ConnectionRule(serverName string) *Rule {
	for i, r := range l.Connections { // the most specific first
		if r.Match.TLS == nil || HostCovers(r.Match.TLS.ServerName, serverName) {
			return &l.Connections[i]
		}
	}
	return nil
}
