package envoy

import (
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// EndpointResources returns the load assignment of one Service port in one family. For a Service that keeps calls on the
// caller's node, it returns a variant for each node with endpoints, and an empty one for all other nodes.
func EndpointResources(svc *mesh.Service, key mesh.EndpointsKey, endpoints []mesh.Endpoint) []Resource {
	name := OutboundName(key)
	assignment := func(variant string, eps []mesh.Endpoint) Resource {
		return Resource{
			Type: EndpointType, Name: name, Variant: variant, Namespace: svc.Namespace, Lazy: key.UDP || !svc.Captured(), Message: loadAssignment(name, eps),
		}
	}
	if !svc.LocalOnly {
		return []Resource{assignment("", endpoints)}
	}
	byNode := map[string][]mesh.Endpoint{}
	for _, e := range endpoints {
		if e.Node != "" {
			byNode[e.Node] = append(byNode[e.Node], e)
		}
	}
	nodes := make([]string, 0, len(byNode))
	for n := range byNode {
		nodes = append(nodes, n)
	}
	slices.Sort(nodes)
	out := []Resource{assignment("", nil)}
	for _, n := range nodes {
		out = append(out, assignment(n, byNode[n]))
	}
	return out
}

func loadAssignment(name string, endpoints []mesh.Endpoint) *endpointv3.ClusterLoadAssignment {
	out := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	if len(endpoints) == 0 {
		return out
	}
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
	out.Endpoints = []*endpointv3.LocalityLbEndpoints{{LbEndpoints: lb}}
	return out
}
