package envoy

import (
	"net/netip"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ServiceResources gives clusters, scopes and route configurations of one Service. Its endpoints
// come apart from it (EndpointResources): they change often and take a path of their own.
func ServiceResources(svc *mesh.Service, cfg *config.Mesh) []Resource {
	var out []Resource
	for _, ip := range svc.ClusterIPs {
		for _, port := range svc.Ports {
			key := mesh.EndpointsKey{Service: svc.Key, Port: port.Number, Family: mesh.FamilyOf(ip)}
			if port.Protocol != mesh.TCP {
				out = append(out, httpResources(svc, key, ip, cfg)...)
			}
			if port.Protocol != mesh.HTTP {
				c := tcpCluster(ip, svc, key, cfg)
				out = append(out, Resource{Type: ClusterType, Name: c.Name, Message: c})
			}
		}
	}
	return out
}

func httpResources(svc *mesh.Service, key mesh.EndpointsKey, ip netip.Addr, cfg *config.Mesh) []Resource {
	name := OutboundName(key)
	s := scope(netip.AddrPortFrom(ip, key.Port).String(), name)
	return []Resource{
		{Type: ClusterType, Name: name, Message: httpCluster(svc, key, cfg)},
		{Type: ScopedRouteType, Name: s.Name, Message: s},
		{Type: RouteType, Name: name, Message: routeConfiguration(svc, name, cfg)},
	}
}
