package xds_test

import (
	"fmt"
	"testing"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	statefulv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// validate lets the real Envoy check every resource: listeners and clusters as static resources,
// each route configuration and load assignment inside a listener or cluster made for it.
func validate(t *testing.T, resources []envoy.Resource) {
	t.Helper()
	static := &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{controlPlane(), {Name: sds.Cluster}}}
	for i, r := range resources {
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			static.Clusters = append(static.Clusters, m)
		case *listenerv3.Listener:
			l := proto.Clone(m).(*listenerv3.Listener)
			l.Name = fmt.Sprintf("%s-%s", r.Name, r.Variant)
			// Variants share a port, which one Envoy never sees.
			l.Address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(30000 + i)}
			for _, a := range l.AdditionalAddresses {
				a.Address.GetSocketAddress().PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: uint32(30000 + i)}
			}
			static.Listeners = append(static.Listeners, l)
		case *routev3.RouteConfiguration:
			static.Listeners = append(static.Listeners, holdingRoutes(t, uint32(20000+i), m))
		case *endpointv3.ClusterLoadAssignment:
			a := proto.Clone(m).(*endpointv3.ClusterLoadAssignment)
			a.ClusterName = fmt.Sprintf("endpoints-%d", i)
			static.Clusters = append(static.Clusters, &clusterv3.Cluster{Name: a.ClusterName, LoadAssignment: a})
		}
	}
	// Never there in a proxy, where routes may name clusters that do not exist.
	static.Clusters = append(static.Clusters, &clusterv3.Cluster{Name: envoy.UnresolvedCluster})
	boot := &bootstrapv3.Bootstrap{
		LayeredRuntime:  runtimeLayer(t),
		Node:            &corev3.Node{Id: "test/validate", Cluster: "test/validate"},
		StaticResources: static,
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{AdsConfig: &corev3.ApiConfigSource{
			ApiType:             corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
				EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: controlPlane().Name},
			}}},
		}},
	}
	json, err := protojson.Marshal(boot)
	if err != nil {
		t.Fatal(err)
	}
	envoytest.Validate(t, json)
}

// runtimeLayer is what the bootstrap of a sidecar sets that routes depend on.
func runtimeLayer(t *testing.T) *bootstrapv3.LayeredRuntime {
	t.Helper()
	values, err := structpb.NewStruct(map[string]any{"re2.max_program_size.error_level": 32 << 10})
	if err != nil {
		t.Fatal(err)
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name: "static", LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: values},
	}}}
}

func controlPlane() *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: "control-plane"}
}

// holdingRoutes is a listener with the route configuration inline.
func holdingRoutes(t *testing.T, port uint32, routes *routev3.RouteConfiguration) *listenerv3.Listener {
	t.Helper()
	hcm := &hcmv3.HttpConnectionManager{
		StatPrefix:     "validate",
		RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: routes},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name:       "envoy.filters.http.stateful_session",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &statefulv3.StatefulSession{})},
		}, {
			Name:       "envoy.filters.http.router",
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(t, &routerv3.Router{})},
		}},
	}
	return &listenerv3.Listener{
		Name: fmt.Sprintf("routes-%d", port),
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, hcm)},
		}}}},
	}
}

func pack(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	a, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
