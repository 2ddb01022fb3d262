package envoy

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
)

// destinationAddress is the original destination, "<ip>:<port>" or "[<ipv6>]:<port>": the name of
// the scope (HTTP) or of the cluster (TCP) that a connection belongs to.
const destinationAddress = "%DOWNSTREAM_LOCAL_ADDRESS%"

// OutboundListeners give the outbound listener in its variants. A connection to a Service address
// takes the chain of that port's protocol, all else passes through. Which Service it is for is left
// to the scope (HTTP) or the cluster's name (TCP), so the listener does not grow with the mesh.
//
// It binds loopback only: that is where a redirect in the output hook sends connections, and nobody
// else has business there.
func OutboundListeners(table *ProtocolTable, serviceCIDRs []netip.Prefix, cfg *config.Mesh) []Resource {
	return SecureOutboundListeners(table, serviceCIDRs, nil, cfg)
}

// SecureOutboundListeners are OutboundListeners of which connections to addresses in the ranges of pods, too,
// take a cluster by their destination (PodCluster), so that calls to a pod's own address have mTLS.
func SecureOutboundListeners(table *ProtocolTable, serviceCIDRs, podRanges []netip.Prefix, cfg *config.Mesh) []Resource {
	return listeners("outbound", func(f families) *listenerv3.Listener {
		l := &listenerv3.Listener{
			TrafficDirection:   corev3.TrafficDirection_OUTBOUND,
			FilterChainMatcher: table.matcher(serviceCIDRs, podRanges),
			FilterChains: []*listenerv3.FilterChain{
				{Name: httpChain, Filters: []*listenerv3.Filter{httpConnectionManager(cfg)}},
				{Name: opaqueChain, Filters: opaqueFilters(cfg)},
				{Name: passthroughChain, Filters: []*listenerv3.Filter{tcpProxy("passthrough", PassthroughCluster)}},
				refuse(),
			},
			ListenerFilters: []*listenerv3.ListenerFilter{originalDst()},
			// A client that sends nothing is taken for one that waits for the server to speak first.
			ListenerFiltersTimeout:           durationpb.New(cfg.Detection.Timeout.Duration),
			ContinueOnListenerFiltersTimeout: true,
		}
		if len(podRanges) > 0 {
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{Name: podChain, Filters: podFilters(cfg)})
		}
		if ports := table.inspected(); len(ports) > 0 {
			l.ListenerFilters = append(l.ListenerFilters, httpInspector(ports))
		}
		f.bind(l, loopbackIPv4, loopbackIPv6, outboundPort)
		return l
	})
}

func httpInspector(ports []uint16) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:           "envoy.filters.listener.http_inspector",
		ConfigType:     &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&inspectorv3.HttpInspector{})},
		FilterDisabled: exceptPorts(ports),
	}
}

// opaqueFilters pass bytes to the cluster named like the destination address. A refused connection has
// carried nothing, so another endpoint may be tried.
func opaqueFilters(cfg *config.Mesh) []*listenerv3.Filter {
	return onDemandFilters("outbound_tcp", destinationAddress, uint32(*cfg.Traffic.Retry.Attempts)+1, cfg)
}

// podFilters pass bytes to the cluster of the destination, a pod's own address. There is no other to try.
func podFilters(cfg *config.Mesh) []*listenerv3.Filter {
	return onDemandFilters("outbound_pod", podPrefix+destinationAddress, 1, cfg)
}

// onDemandFilters pass bytes to a cluster whose name tells the destination. It is asked for over ADS if Envoy does
// not have it.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/tcp_proxy_filter
func onDemandFilters(statPrefix, cluster string, attempts uint32, cfg *config.Mesh) []*listenerv3.Filter {
	return []*listenerv3.Filter{
		networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
			OnNewConnection: []*filterstatev3.FilterStateValue{{
				Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: "envoy.tcp_proxy.cluster"},
				Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
					Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
						Specifier: &corev3.DataSource_InlineString{InlineString: cluster},
					}},
				}},
			}},
		}),
		tcpProxyFilter(&tcpv3.TcpProxy{
			StatPrefix: statPrefix,
			// Never used: the filter state above names the cluster.
			ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: PassthroughCluster},
			OnDemand:           &tcpv3.TcpProxy_OnDemand{OdcdsConfig: ads(), Timeout: durationpb.New(cfg.OnDemand.Timeout.Duration)},
			IdleTimeout:        durationpb.New(0),
			MaxConnectAttempts: wrapperspb.UInt32(attempts),
			HashPolicy: []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{
				SourceIp: &typev3.HashPolicy_SourceIp{}, // read only by clusters that hash
			}}},
		}),
	}
}
