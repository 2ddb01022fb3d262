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
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	statefulv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/stateful_session/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// validate lets the real Envoy check every resource: listeners and clusters as static resources,
// each route configuration, virtual host and load assignment inside a listener or cluster made for it.
func validate(t *testing.T, resources []envoy.Resource) {
	t.Helper()
	static := &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{controlPlane(), {Name: sds.Cluster}}}
	port := uint32(30000)
	for i, r := range resources {
		switch m := r.Message.(type) {
		case *clusterv3.Cluster:
			c := proto.Clone(m).(*clusterv3.Cluster)
			if r.Variant != "" { // one Envoy never sees both
				c.Name += " " + r.Variant
			}
			static.Clusters = append(static.Clusters, c)
		case *listenerv3.Listener:
			l := proto.Clone(m).(*listenerv3.Listener)
			l.Name = fmt.Sprintf("%s-%s", r.Name, r.Variant)
			// Variants share a port, which one Envoy never sees.
			for _, a := range addresses(l) {
				port++
				a.PortSpecifier = &corev3.SocketAddress_PortValue{PortValue: port}
			}
			static.Listeners = append(static.Listeners, l)
		case *routev3.RouteConfiguration:
			rc := proto.Clone(m).(*routev3.RouteConfiguration)
			rc.Vhds = nil // a static one has them itself
			static.Listeners = append(static.Listeners, holdingRoutes(t, uint32(20000+i), rc))
		case *routev3.VirtualHost:
			static.Listeners = append(static.Listeners, holdingRoutes(t, uint32(20000+i), &routev3.RouteConfiguration{VirtualHosts: []*routev3.VirtualHost{m}}))
		case *endpointv3.ClusterLoadAssignment:
			a := proto.Clone(m).(*endpointv3.ClusterLoadAssignment)
			a.ClusterName = fmt.Sprintf("endpoints-%d", i)
			static.Clusters = append(static.Clusters, &clusterv3.Cluster{Name: a.ClusterName, LoadAssignment: a})
		}
	}
	// Never there in a proxy, where routes may name clusters that do not exist.
	static.Clusters = append(static.Clusters, &clusterv3.Cluster{Name: envoy.UnresolvedCluster})
	boot := &bootstrapv3.Bootstrap{
		LayeredRuntime:      runtimeLayer(t),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{internalListeners(t)},
		Node:                &corev3.Node{Id: "test/validate", Cluster: "test/validate"},
		StaticResources:     static,
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

// addresses of a listener; one inside Envoy has none.
func addresses(l *listenerv3.Listener) []*corev3.SocketAddress {
	var out []*corev3.SocketAddress
	if l.Address != nil {
		out = append(out, l.Address.GetSocketAddress())
	}
	for _, a := range l.AdditionalAddresses {
		out = append(out, a.Address.GetSocketAddress())
	}
	return out
}

// internalListeners is what the bootstrap of a sidecar has for listeners inside Envoy.
func internalListeners(t *testing.T) *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: "envoy.bootstrap.internal_listener", TypedConfig: pack(t, &internalv3.InternalListener{})}
}

// runtimeLayer is the bootstrap's of a sidecar.
func runtimeLayer(t *testing.T) *bootstrapv3.LayeredRuntime {
	t.Helper()
	return sidecarBootstrap(t).LayeredRuntime
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
