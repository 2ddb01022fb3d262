package agent

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

const (
	clusterType  = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	listenerType = "type.googleapis.com/envoy.config.listener.v3.Listener"
)

// controlPlaneStub is a delta ADS server that answers a type's first request once it has been told
// with what.
type controlPlaneStub struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	addr   string
	server *grpc.Server

	mu      sync.Mutex
	streams int // that were ever opened
	answers map[string]*discoveryv3.DeltaDiscoveryResponse
	changed chan struct{} // closed and replaced with each change of answers
}

func startControlPlane(t *testing.T, addr string, options ...grpc.ServerOption) *controlPlaneStub {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cp := &controlPlaneStub{
		addr: addr, server: grpc.NewServer(options...),
		answers: map[string]*discoveryv3.DeltaDiscoveryResponse{}, changed: make(chan struct{}),
	}
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(cp.server, cp)
	go cp.server.Serve(l)
	t.Cleanup(cp.server.Stop)
	return cp
}

func (cp *controlPlaneStub) stop() { cp.server.Stop() }

// send answers the type's subscription, now or when it comes.
func (cp *controlPlaneStub) send(typeURL string, resources ...proto.Message) {
	res := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeURL, Nonce: "1"}
	for _, r := range resources {
		name := r.(interface{ GetName() string }).GetName()
		res.Resources = append(res.Resources, &discoveryv3.Resource{Name: name, Version: "1", Resource: toAny(r)})
	}
	cp.mu.Lock()
	defer cp.mu.Unlock()
	cp.answers[typeURL] = res
	close(cp.changed)
	cp.changed = make(chan struct{})
}

func (cp *controlPlaneStub) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	cp.mu.Lock()
	cp.streams++
	cp.mu.Unlock()
	requests := make(chan string)
	go func() {
		defer close(requests)
		for {
			req, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- req.GetTypeUrl():
			case <-stream.Context().Done():
				return
			}
		}
	}()
	waiting, answered := map[string]bool{}, map[string]bool{}
	for {
		cp.mu.Lock()
		changed := cp.changed
		for typeURL := range waiting {
			if res := cp.answers[typeURL]; res != nil && !answered[typeURL] {
				answered[typeURL] = true
				if err := stream.Send(res); err != nil {
					cp.mu.Unlock()
					return err
				}
			}
		}
		cp.mu.Unlock()
		select {
		case typeURL, ok := <-requests:
			if !ok {
				return nil
			}
			waiting[typeURL] = true
		case <-changed:
		}
	}
}

// invalidListener names a filter that Envoy does not have.
var invalidListener = listenerv3.Listener{
	Name:         "invalid",
	Address:      socketAddress(netip.MustParseAddrPort("127.0.0.1:0")),
	FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "no.such.filter"}}}},
}

const testCluster = "outbound/shop/cart/8080"

func staticCluster(upstream netip.AddrPort) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 testCluster,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: testCluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: socketAddress(upstream)}},
			}}}},
		},
	}
}

func httpListener(at netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:       "outbound",
		StatPrefix: "outbound",
		Address:    socketAddress(at),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "envoy.filters.network.http_connection_manager",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&hcmv3.HttpConnectionManager{
				StatPrefix: "outbound_http",
				RouteSpecifier: &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
					VirtualHosts: []*routev3.VirtualHost{{
						Name: "all", Domains: []string{"*"},
						Routes: []*routev3.Route{{
							Match: &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
							Action: &routev3.Route_Route{Route: &routev3.RouteAction{
								ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: testCluster},
							}},
						}},
					}},
				}},
				AccessLog: []*accesslogv3.AccessLog{envoy.GRPCErrors()},
				HttpFilters: []*hcmv3.HttpFilter{{
					Name:       "envoy.filters.http.router",
					ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(&routerv3.Router{})},
				}},
			})},
		}}}},
	}
}

func tcpListener(at netip.AddrPort) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:    "inbound",
		Address: socketAddress(at),
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.tcp_proxy",
			ConfigType: tcpProxyTo(testCluster),
		}}}},
	}
}

func tcpProxyTo(cluster string) *listenerv3.Filter_TypedConfig {
	return &listenerv3.Filter_TypedConfig{TypedConfig: toAny(&tcpproxyv3.TcpProxy{
		StatPrefix:       "inbound",
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
	})}
}

func socketAddress(at netip.AddrPort) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: at.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(at.Port())},
	}}}
}

// toAny packs deterministically: the same message gives the same bytes.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(err)
	}
	return a
}
