package mesh

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// readTCPRoute reads a TCPRoute. Its only rule matches every connection.
func readTCPRoute(o *gatewayv1.TCPRoute) *route {
	r := newRoute(KindTCPRoute, o.Namespace, o.Name, o.CreationTimestamp.Time, o.Generation, o.Spec.ParentRefs)
	for i, rule := range o.Spec.Rules {
		r.addConnectionRule(i, rule.Name, rule.BackendRefs, []Match{everyConnection})
	}
	r.finishConnections(o.Annotations)
	return r
}

// readUDPRoute reads a UDPRoute. Its only rule matches every packet.
func readUDPRoute(o *gatewayv1.UDPRoute) *route {
	r := newRoute(KindUDPRoute, o.Namespace, o.Name, o.CreationTimestamp.Time, o.Generation, o.Spec.ParentRefs)
	for i, rule := range o.Spec.Rules {
		r.addConnectionRule(i, rule.Name, rule.BackendRefs, []Match{everyConnection})
	}
	r.finishConnections(o.Annotations)
	return r
}

// everyConnection matches every connection. A connection has no path, so the match has the path that matches everything.
var everyConnection = Match{Path: TextMatch{Prefix, "/"}}

// readTLSRoute reads a TLSRoute. A TLSRoute without hostnames, which older versions of the API allow, matches every TLS
// connection. GEP-1294 says that hostnames have no effect on Services, because requests can be matched by the header Host.
// A TLSRoute has nothing else to match by, so its hostnames have effect.
func readTLSRoute(o *gatewayv1.TLSRoute) *route {
	r := newRoute(KindTLSRoute, o.Namespace, o.Name, o.CreationTimestamp.Time, o.Generation, o.Spec.ParentRefs)
	var faults faults
	var matches []Match
	for i, name := range o.Spec.Hostnames {
		if !validServerName(string(name)) {
			faults.unknown(fmt.Sprintf("spec.hostnames[%d]", i), name, `a name in lower case such as db.example.com, or *.example.com; no IP address`)
			continue
		}
		r.serverNames = append(r.serverNames, string(name))
		matches = append(matches, serverName(string(name)))
	}
	if len(o.Spec.Hostnames) == 0 {
		r.serverNames, matches = []string{""}, []Match{serverName("")}
	}
	r.serverNames = uniqueNames(r.serverNames)
	for i, rule := range o.Spec.Rules {
		r.addConnectionRule(i, rule.Name, rule.BackendRefs, matches)
	}
	r.faults = faults
	r.finishConnections(o.Annotations)
	return r
}

func serverName(name string) Match {
	m := everyConnection
	m.TLS = &TLSMatch{name}
	return m
}

func uniqueNames(names []string) []string {
	var out []string
	for _, name := range names {
		if !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out
}

var dnsName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)

// validServerName reports whether the schema allows a hostname in a TLSRoute.
func validServerName(name string) bool {
	if _, err := netip.ParseAddr(name); err == nil || len(name) > 253 {
		return false
	}
	return dnsName.MatchString(strings.TrimPrefix(name, "*."))
}

func isWildcard(name string) bool { return strings.HasPrefix(name, "*.") }

func (r *route) addConnectionRule(i int, name *gatewayv1.SectionName, backends []gatewayv1.BackendRef, matches []Match) {
	rule := routeRule{origin: r.origin(i, name), matches: matches}
	for j, ref := range backends {
		rule.backends = append(rule.backends, newBackendRef(fmt.Sprintf("spec.rules[%d].backendRefs[%d]", i, j), ref, &rule.faults))
	}
	r.rules = append(r.rules, rule)
}

// finishConnections checks the route as a whole. Our annotations are about calls, and have no effect on connections.
func (r *route) finishConnections(annotations map[string]string) {
	if n := len(r.rules); n != 1 {
		r.faults.unknown("spec.rules", fmt.Sprintf("%d rules", n), "one rule")
	}
	for _, key := range config.KeysIn(annotations) {
		r.faults.unknown(fmt.Sprintf("metadata.annotations[%s]", key), annotations[key],
			fmt.Sprintf("no annotation of %s, because a %s routes connections, not calls", config.Group, r.Kind))
	}
	for _, rule := range r.rules {
		r.faults = append(r.faults, rule.faults...)
	}
}
