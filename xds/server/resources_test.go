package server_test

import (
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func cluster(name, endpoints string) envoy.Resource {
	return clusterWith(name, endpoints, "")
}

func clusterWith(name, endpoints, altStat string) envoy.Resource {
	return envoy.Resource{Type: envoy.ClusterType, Name: name, Message: &clusterv3.Cluster{
		Name: name, AltStatName: altStat, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: endpoints},
	}}
}

func endpoints(name string, priority uint32) envoy.Resource {
	return envoy.Resource{Type: envoy.EndpointType, Name: name, Message: &endpointv3.ClusterLoadAssignment{
		ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{Priority: priority}},
	}}
}

func listener(name string) envoy.Resource {
	return envoy.Resource{Type: envoy.ListenerType, Name: name, Message: &listenerv3.Listener{Name: name}}
}

// whole is one Service with everything that belongs to it. It is of no namespace, so every proxy is sent it before it asks.
func whole(name string) []envoy.Resource { return service("", name) }

// routeTo is a route to clusters.
func routeTo(name string, clusters ...string) envoy.Resource {
	host := &routev3.VirtualHost{Name: name, Domains: []string{"*"}}
	for _, c := range clusters {
		host.Routes = append(host.Routes, &routev3.Route{Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: c},
		}}})
	}
	return envoy.Resource{Type: envoy.RouteType, Name: name, Message: &routev3.RouteConfiguration{
		Name: name, VirtualHosts: []*routev3.VirtualHost{host},
	}}
}

// service is one Service port of a namespace, whose route goes to its own cluster. All have the same name, and so
// has the destination.
func service(namespace, name string) []envoy.Resource {
	return in(namespace, cluster(name, name), endpoints(name, 0), routeTo(name, name))
}

// in puts resources into a namespace.
func in(namespace string, resources ...envoy.Resource) []envoy.Resource {
	for i := range resources {
		resources[i].Namespace = namespace
	}
	return resources
}

// lazy makes resources ones that are not sent unless asked for.
func lazy(resources ...envoy.Resource) []envoy.Resource {
	for i := range resources {
		resources[i].Lazy = true
	}
	return resources
}

func ids(resources []envoy.Resource) []envoy.ID {
	var out []envoy.ID
	for _, r := range resources {
		out = append(out, r.ID())
	}
	return out
}
