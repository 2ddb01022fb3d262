package envoy

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/proto"
)

// References returns the resources that a message names, in the order in which they first occur: a cluster's endpoints, a
// scope's route configuration, or the clusters of a route configuration or a virtual host.
func References(m proto.Message) []ID {
	switch m := m.(type) {
	case *clusterv3.Cluster:
		if name := m.GetEdsClusterConfig().GetServiceName(); name != "" {
			return []ID{{EndpointType, name}}
		}
	case *routev3.ScopedRouteConfiguration:
		if name := m.GetRouteConfigurationName(); name != "" {
			return []ID{{RouteType, name}}
		}
	case *routev3.RouteConfiguration:
		return clustersOf(m.RequestMirrorPolicies, m.VirtualHosts...)
	case *routev3.VirtualHost:
		return clustersOf(nil, m)
	}
	return nil
}

func clustersOf(mirrored []*routev3.RouteAction_RequestMirrorPolicy, hosts ...*routev3.VirtualHost) []ID {
	var out []ID
	seen := map[string]bool{"": true, UnresolvedCluster: true} // UnresolvedCluster does not exist
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			out = append(out, ID{ClusterType, name})
		}
	}
	mirrors := func(policies []*routev3.RouteAction_RequestMirrorPolicy) {
		for _, p := range policies {
			add(p.GetCluster())
		}
	}
	mirrors(mirrored)
	for _, host := range hosts {
		mirrors(host.RequestMirrorPolicies)
		for _, route := range host.Routes {
			action := route.GetRoute()
			add(action.GetCluster())
			for _, c := range action.GetWeightedClusters().GetClusters() {
				add(c.GetName())
			}
			mirrors(action.GetRequestMirrorPolicies())
		}
	}
	return out
}
