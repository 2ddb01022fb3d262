package envoy

import (
	"maps"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// EndpointResources returns the load assignment of one Service port in one family. For a Service that keeps calls on the
// caller's node, it returns a variant for each node with endpoints, and an empty one for all other nodes. Where Kubernetes recommends
// endpoints to nodes or zones, it returns a variant for each of these.
func EndpointResources(svc *mesh.Service, key mesh.EndpointsKey, endpoints []mesh.Endpoint) []Resource {
	name := OutboundName(key)
	assignment := func(variant string, levels ...[]mesh.Endpoint) Resource {
		return Resource{
			Type: EndpointType, Name: name, Variant: variant, Namespace: svc.Namespace, Lazy: key.UDP || !svc.Captured(), Message: loadAssignment(name, levels),
		}
	}
	if !svc.LocalOnly {
		out := []Resource{assignment("", endpoints)}
		nodes, zones := mesh.Near(endpoints)
		for _, n := range slices.Sorted(maps.Keys(nodes)) {
			out = append(out, assignment(n, nodes[n]...))
		}
		for _, z := range slices.Sorted(maps.Keys(zones)) {
			out = append(out, assignment(zoneVariant(z), zones[z]...))
		}
		return out
	}
	byNode := map[string][]mesh.Endpoint{}
	for _, e := range endpoints {
		if e.Node != "" {
			byNode[e.Node] = append(byNode[e.Node], e)
		}
	}
	out := []Resource{assignment("")}
	for _, n := range slices.Sorted(maps.Keys(byNode)) {
		out = append(out, assignment(n, byNode[n]))
	}
	return out
}

// zoneVariant is the variant for callers of a zone. No node has such a name.
func zoneVariant(zone string) string { return "zone/" + zone }

// loadAssignment has a priority for each level. Envoy sends to the next one as far as less than 1/1.4 of the endpoints of those before can
// be reached, so that the calls to each of these never become more than 1.4 times as many.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/load_balancing/priority
func loadAssignment(name string, levels [][]mesh.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for priority, endpoints := range levels {
		if len(endpoints) > 0 {
			out.Endpoints = append(out.Endpoints, &endpointv3.LocalityLbEndpoints{Priority: uint32(priority), LbEndpoints: lbEndpoints(endpoints)})
		}
	}
	return out
}

func lbEndpoints(endpoints []mesh.Endpoint) []*endpointv3.LbEndpoint {
	lb := make([]*endpointv3.LbEndpoint, len(endpoints))
	for i, e := range endpoints {
		lb[i] = &endpointv3.LbEndpoint{
			HealthStatus: corev3.HealthStatus_HEALTHY,
			Metadata:     identityMetadata(e.Identity),
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAddress(e.Addr.Addr(), uint32(e.Addr.Port())),
			}},
		}
	}
	return lb
}
