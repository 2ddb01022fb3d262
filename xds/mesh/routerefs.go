package mesh

import (
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// RouteRefs are the objects that a route names. The parents' rules depend on the route, its backends, and the grants in
// the backends' namespaces.
type RouteRefs struct {
	// Parents and Backends are Services.
	Parents, Backends []Key
	// Gateways are parents that are Gateways or ListenerSets, of any class.
	Gateways []ID
}

// HTTPRouteRefs returns the Services that an HTTPRoute names, each once, in the order of the object.
func HTTPRouteRefs(o *gatewayv1.HTTPRoute) RouteRefs { return readHTTPRoute(o, true).refs() }

// GRPCRouteRefs is HTTPRouteRefs for a GRPCRoute.
func GRPCRouteRefs(o *gatewayv1.GRPCRoute) RouteRefs { return readGRPCRoute(o, true).refs() }

// TLSRouteRefs is HTTPRouteRefs for a TLSRoute.
func TLSRouteRefs(o *gatewayv1.TLSRoute) RouteRefs { return readTLSRoute(o).refs() }

// TCPRouteRefs is HTTPRouteRefs for a TCPRoute.
func TCPRouteRefs(o *gatewayv1.TCPRoute) RouteRefs { return readTCPRoute(o).refs() }

// UDPRouteRefs is HTTPRouteRefs for a UDPRoute.
func UDPRouteRefs(o *gatewayv1.UDPRoute) RouteRefs { return readUDPRoute(o).refs() }

func (r *route) refs() RouteRefs {
	var out RouteRefs
	seenParents, seenBackends := map[Key]bool{}, map[Key]bool{}
	for _, ref := range r.parents {
		if key, ok := parentKey(r.Key, ref); ok && !seenParents[key] {
			seenParents[key] = true
			out.Parents = append(out.Parents, key)
		}
		if id, ok := GatewayParent(r.Key, ref); ok && !slices.Contains(out.Gateways, id) {
			out.Gateways = append(out.Gateways, id)
		}
	}
	add := func(ref gatewayv1.BackendObjectReference) {
		key := Key{r.Namespace, string(ref.Name)}
		if ref.Namespace != nil {
			key.Namespace = string(*ref.Namespace)
		}
		if !seenBackends[key] {
			seenBackends[key] = true
			out.Backends = append(out.Backends, key)
		}
	}
	for _, rule := range r.rules {
		for _, m := range rule.filters.mirrors {
			add(m.ref)
		}
		if rule.filters.auth != nil {
			add(rule.filters.auth.ref)
		}
		for _, b := range rule.backends {
			add(b.ref)
		}
	}
	return out
}
