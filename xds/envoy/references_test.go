package envoy

import (
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
)

func TestReferences(t *testing.T) {
	to := func(action *routev3.RouteAction) *routev3.Route {
		return &routev3.Route{Action: &routev3.Route_Route{Route: action}}
	}
	cluster := func(name string) *routev3.Route {
		return to(&routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}})
	}
	weighted := func(names ...string) *routev3.Route {
		w := &routev3.WeightedCluster{}
		for _, name := range names {
			w.Clusters = append(w.Clusters, &routev3.WeightedCluster_ClusterWeight{Name: name})
		}
		return to(&routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_WeightedClusters{WeightedClusters: w}})
	}
	mirror := func(name string) []*routev3.RouteAction_RequestMirrorPolicy {
		return []*routev3.RouteAction_RequestMirrorPolicy{{Cluster: name}}
	}
	host := func(routes ...*routev3.Route) *routev3.VirtualHost { return &routev3.VirtualHost{Routes: routes} }
	routes := func(hosts ...*routev3.VirtualHost) *routev3.RouteConfiguration {
		return &routev3.RouteConfiguration{VirtualHosts: hosts}
	}
	mirrored := cluster("b")
	mirrored.GetRoute().RequestMirrorPolicies = mirror("mirror of the route")
	all := routes(&routev3.VirtualHost{Routes: []*routev3.Route{mirrored}, RequestMirrorPolicies: mirror("mirror of the host")})
	all.RequestMirrorPolicies = mirror("mirror of all")

	clusters := func(names ...string) []ID {
		var out []ID
		for _, name := range names {
			out = append(out, ID{ClusterType, name})
		}
		return out
	}
	for name, test := range map[string]struct {
		in   proto.Message
		want []ID
	}{
		"cluster": {
			&clusterv3.Cluster{Name: "a", EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: "e"}},
			[]ID{{EndpointType, "e"}},
		},
		"cluster without endpoints":       {NoEndpoints("a").Message, nil},
		"scope":                           {&routev3.ScopedRouteConfiguration{Name: "s", RouteConfigurationName: "r"}, []ID{{RouteType, "r"}}},
		"scope that holds its route":      {&routev3.ScopedRouteConfiguration{Name: "s"}, nil},
		"route configuration, no Service": {NoService("a").Message, nil},
		"each cluster once, in order":     {routes(host(cluster("b"), cluster("a")), host(cluster("b"), cluster("c"))), clusters("b", "a", "c")},
		"weighted":                        {routes(host(weighted("b", "a"), cluster("a"))), clusters("b", "a")},
		"mirrors":                         {all, clusters("mirror of all", "mirror of the host", "b", "mirror of the route")},
		"cluster named by a header":       {routes(host(to(&routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_ClusterHeader{ClusterHeader: "h"}}))), nil},
		"redirect":                        {routes(host(&routev3.Route{Action: &routev3.Route_Redirect{Redirect: &routev3.RedirectAction{}}})), nil},
		"endpoints":                       {&endpointv3.ClusterLoadAssignment{ClusterName: "a"}, nil},
		"listener":                        {&listenerv3.Listener{Name: "a"}, nil},
		"nothing":                         {nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(test.want, References(test.in)); diff != "" {
				t.Error(diff)
			}
		})
	}
}
