package envoy

import (
	"net/netip"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ServiceResources returns the clusters and route configurations of one Service whose ports have these rules
// (mesh.BuildRoutes). Its endpoints are separate (EndpointResources), because they change often.
//
// Every port has both forms, HTTP and TCP. The form that its protocol does not use is lazy: it is only for proxies that do
// not know of a change of the protocol yet, and for connections that were made before the change.
func ServiceResources(svc *mesh.Service, rules map[uint16]mesh.PortRules, cfg *config.Mesh) []Resource {
	var out []Resource
	add := func(r Resource, lazy bool) {
		r.Namespace, r.Lazy = svc.Namespace, lazy
		out = append(out, r)
	}
	for _, ip := range svc.ClusterIPs {
		for _, port := range svc.Ports {
			key := mesh.EndpointsKey{Service: svc.Key, Port: port.Number, Family: mesh.FamilyOf(ip)}
			name, destination := OutboundName(key), netip.AddrPortFrom(ip, key.Port).String()
			noHTTP, noTCP := port.Protocol == mesh.TCP, port.Protocol == mesh.HTTP
			add(Resource{Type: ClusterType, Name: name, Message: httpCluster(svc, key, cfg)}, noHTTP)
			add(Resource{Type: ClusterType, Name: destination, Message: tcpCluster(destination, svc, key, cfg)}, noTCP)
			for _, routes := range routeConfigurations(destination, svc, key, rules[port.Number], cfg) {
				add(routes, noHTTP)
				add(legacyRoutes(name, routes), true)
			}
			for _, mirror := range (translation{key: key, cfg: cfg}).mirrorClusters(rules[port.Number]) {
				add(mirror, true) // lazy: it is sent with the routes that name it
			}
		}
	}
	return out
}
