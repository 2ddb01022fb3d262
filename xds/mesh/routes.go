package mesh

import (
	"fmt"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// RouteInputs are the objects that the rules of a Service depend on. Other objects are ignored.
type RouteInputs struct {
	// Routes that name the Service as a parent.
	HTTPRoutes []*gatewayv1.HTTPRoute
	GRPCRoutes []*gatewayv1.GRPCRoute
	TLSRoutes  []*gatewayv1.TLSRoute
	TCPRoutes  []*gatewayv1.TCPRoute
	UDPRoutes  []*gatewayv1.UDPRoute
	// Grants in the namespaces of the backends.
	Grants []*gatewayv1.ReferenceGrant
	// Services that exist: the parent, and those the routes send to. The value is nil for a Service without a cluster IP or
	// a TCP port, as BuildService returns it, unless a Gateway sends to it.
	Services map[Key]*Service
	// Refused has the routes that must not be attached, each with the reason.
	Refused map[ID]string
}

// Lost is a port on which a route has no effect because of other routes, or such a hostname of a TLSRoute.
type Lost struct {
	Port uint16
	// Hostname is empty for the port as a whole.
	Hostname string
	Route    Kind
	Holder   ID
}

func (l Lost) String() string {
	switch {
	case l.Hostname != "":
		return fmt.Sprintf("hostname %q has no effect on port %d: %s has the same hostname and is older", l.Hostname, l.Port, l.Holder)
	case l.Holder.Kind != l.Route:
		return fmt.Sprintf("no effect on port %d, where %s takes precedence: %s", l.Port, l.Holder, kindOrder)
	default:
		return fmt.Sprintf("no effect on port %d, where %s takes precedence, because it is older", l.Port, l.Holder)
	}
}

// BuildRoutes returns the rules of each port of one Service, and the statuses of the routes that name the Service as a
// parent: sorted by route, then in the order of its parentRefs. Each such route gets a status, even if the Service does
// not exist. A port without an attached route has no entry.
func BuildRoutes(parent Key, in RouteInputs) (map[uint16]PortRules, []Status) {
	b := builder{resolver: resolver{in.Services, in.Grants, &parent}, in: in, parent: parent, attached: map[group]*attachment{}}
	var attempts []attempt
	for _, r := range readRoutes(in, false) {
		for _, ref := range r.parents {
			if key, ok := parentKey(r.Key, ref); ok && key == parent {
				attempts = append(attempts, b.attach(r, ref))
			}
		}
	}
	var statuses []Status
	for _, a := range attempts {
		statuses = append(statuses, b.status(a))
	}
	return b.rules(), statuses
}

// readRoutes reads all routes, in the order of their names. gateway is true if they are read for a Gateway.
func readRoutes(in RouteInputs, gateway bool) []*route {
	var routes []*route
	for _, o := range in.GRPCRoutes {
		routes = append(routes, readGRPCRoute(o, gateway))
	}
	for _, o := range in.HTTPRoutes {
		routes = append(routes, readHTTPRoute(o, gateway))
	}
	for _, o := range in.TLSRoutes {
		routes = append(routes, readTLSRoute(o))
	}
	for _, o := range in.TCPRoutes {
		routes = append(routes, readTCPRoute(o))
	}
	for _, o := range in.UDPRoutes {
		routes = append(routes, readUDPRoute(o))
	}
	slices.SortFunc(routes, func(a, b *route) int { return a.Compare(b.ID) })
	return routes
}

// parentKey returns the Service that a parent reference names. References to Gateways and other kinds are not ours.
func parentKey(route Key, ref gatewayv1.ParentReference) (Key, bool) {
	if ref.Group == nil || *ref.Group != "" || ref.Kind == nil || *ref.Kind != "Service" {
		return Key{}, false
	}
	key := Key{route.Namespace, string(ref.Name)}
	if ref.Namespace != nil {
		key.Namespace = string(*ref.Namespace)
	}
	return key, true
}

// GatewayParent returns the Gateway or ListenerSet that a parent reference names.
func GatewayParent(route Key, ref gatewayv1.ParentReference) (ID, bool) {
	id := ID{KindGateway, Key{route.Namespace, string(ref.Name)}} // the defaults of the schema
	if ref.Kind != nil {
		id.Kind = Kind(*ref.Kind)
	}
	if ref.Namespace != nil {
		id.Namespace = string(*ref.Namespace)
	}
	group := ref.Group == nil || *ref.Group == gatewayv1.GroupName
	return id, group && (id.Kind == KindGateway || id.Kind == KindListenerSet)
}

// ofGateway reports whether a route has no parent but Gateways and ListenerSets.
func ofGateway(parents []gatewayv1.ParentReference) bool {
	return len(parents) > 0 && !slices.ContainsFunc(parents, func(ref gatewayv1.ParentReference) bool {
		_, ok := GatewayParent(Key{}, ref)
		return !ok
	})
}

// builder builds the rules of one Service.
type builder struct {
	resolver
	in       RouteInputs
	parent   Key
	attached map[group]*attachment
}

// group is the routes of one port that are merged: all producer routes (namespace ""), or the consumer
// routes of one namespace.
type group struct {
	port      uint16
	namespace string
}

// rules merges what is attached.
func (b *builder) rules() map[uint16]PortRules {
	built := map[ID][]Rule{}
	out := map[uint16]PortRules{}
	for g, a := range b.attached {
		merged := []Rule{}
		for _, r := range a.routes {
			if a.holder(r) != r {
				continue
			}
			if _, ok := built[r.ID]; !ok {
				built[r.ID] = b.rulesOf(r)
			}
			merged = append(merged, built[r.ID]...)
		}
		slices.SortFunc(merged, compareRules)
		rules := out[g.port]
		if g.namespace == "" {
			rules.Producer = merged
		} else {
			if rules.Consumer == nil {
				rules.Consumer = map[string][]Rule{}
			}
			rules.Consumer[g.namespace] = merged
		}
		out[g.port] = rules
	}
	return out
}

// rulesOf returns one rule for each match of the route's rules, without dropped rules.
func (b resolver) rulesOf(r *route) []Rule {
	var out []Rule
	for i := range r.rules {
		rule := &r.rules[i]
		if len(rule.faults) > 0 {
			continue
		}
		action := b.action(r, rule)
		for j, m := range rule.matches {
			origin := rule.origin
			origin.Match = j
			out = append(out, Rule{Origin: origin, Match: m, Action: action})
		}
	}
	return out
}
