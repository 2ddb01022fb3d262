package envoy

import (
	"net/netip"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
)

// destinationAddress is the original destination, "<ip>:<port>" or "[<ipv6>]:<port>". It is the name of the scope (HTTP) or
// of the cluster (TCP) that a connection belongs to.
const destinationAddress = "%DOWNSTREAM_LOCAL_ADDRESS%"

// OutboundListeners returns the outbound listener in its variants, and the listeners that it passes connections on to if a
// port's protocol is not declared. A connection to a Service address takes the chain of the port's protocol. In a mesh with
// identities, a connection to an address in the ranges of pods is passed on by the identity there (podFilters), so that
// calls to a pod's own address have mTLS. All other connections pass through. The scope (HTTP) or the cluster's name (TCP)
// chooses the Service, so the listener does not grow with the mesh.
//
// It binds only loopback, where a redirect in the output hook sends connections.
func OutboundListeners(table *ProtocolTable, serviceCIDRs, podRanges []netip.Prefix, cfg *config.Mesh) []Resource {
	out := outboundVariants("outbound", table, func(f families, view []destination) *listenerv3.Listener {
		l := &listenerv3.Listener{
			TrafficDirection:   corev3.TrafficDirection_OUTBOUND,
			FilterChainMatcher: table.matcher(view, serviceCIDRs, podRanges),
			FilterChains: []*listenerv3.FilterChain{
				{Name: httpChain, Filters: []*listenerv3.Filter{httpConnectionManager(cfg, patienceForSockets)}},
				{Name: opaqueChain, Filters: opaqueFilters(cfg)},
				passthrough(),
				{Name: detectName, Filters: passOn(inspectName)},
				refuse(),
			},
			// No filter that waits for bytes: detectName gets the connections that need one.
			ListenerFilters: []*listenerv3.ListenerFilter{originalDst()},
			UseOriginalDst:  wrapperspb.Bool(true),
		}
		if len(podRanges) > 0 {
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{Name: podChain, Filters: podFilters(cfg)})
		}
		l.FilterChains = append(l.FilterChains, connectionChains(view, cfg)...)
		f.bind(l, loopbackIPv4, loopbackIPv6, outboundPort)
		watchCallers(l, cfg)
		return l
	})
	return append(out, detectListeners(table, serviceCIDRs, podRanges, cfg)...)
}

// outboundVariants returns one listener in a variant for each combination of IP families, and for each namespace whose
// clients have routes of connections of their own.
func outboundVariants(name string, table *ProtocolTable, build func(families, []destination) *listenerv3.Listener) []Resource {
	var out []Resource
	for _, namespace := range table.Routes.clients() {
		view := table.Routes.view(namespace)
		for _, r := range listeners(name, func(f families) *listenerv3.Listener { return build(f, view) }) {
			r.Variant = families(r.Variant).of(namespace)
			out = append(out, r)
		}
	}
	return out
}

// passthrough leads to where the application sent a connection.
func passthrough() *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: passthroughChain, Filters: []*listenerv3.Filter{tcpProxy("passthrough", PassthroughCluster)}}
}

// filterState is an object in a connection's filter state, made from a format string.
func filterState(key, format string) *filterstatev3.FilterStateValue {
	return &filterstatev3.FilterStateValue{
		Key: &filterstatev3.FilterStateValue_ObjectKey{ObjectKey: key},
		Value: &filterstatev3.FilterStateValue_FormatString{FormatString: &corev3.SubstitutionFormatString{
			Format: &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
				Specifier: &corev3.DataSource_InlineString{InlineString: format},
			}},
		}},
	}
}

// opaqueFilters pass bytes to the cluster with the name of the destination address. Envoy asks for the cluster over ADS if
// it does not have it. A refused connection has carried nothing, so another endpoint may be tried.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/tcp_proxy_filter
func opaqueFilters(cfg *config.Mesh) []*listenerv3.Filter {
	return []*listenerv3.Filter{
		networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
			OnNewConnection: []*filterstatev3.FilterStateValue{filterState("envoy.tcp_proxy.cluster", destinationAddress)},
		}),
		tcpProxyFilter(outboundTCP(cfg)),
	}
}

// attemptBackoff is the wait between attempts to connect. Without one all attempts may meet the same dead endpoint before Envoy has ejected
// it (detectUnreachable), because nothing keeps an attempt from where the one before has failed.
var attemptBackoff = &corev3.BackoffStrategy{BaseInterval: durationpb.New(10 * time.Millisecond), MaxInterval: durationpb.New(100 * time.Millisecond)}

func outboundTCP(cfg *config.Mesh) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix: "outbound_tcp",
		// opaqueFilters never uses it: the filter state names the cluster.
		ClusterSpecifier:   &tcpv3.TcpProxy_Cluster{Cluster: PassthroughCluster},
		OnDemand:           &tcpv3.TcpProxy_OnDemand{OdcdsConfig: ads(), Timeout: durationpb.New(cfg.OnDemand.Timeout.Duration)},
		IdleTimeout:        durationpb.New(0),
		MaxConnectAttempts: wrapperspb.UInt32(uint32(*cfg.Traffic.Retry.Attempts) + 1),
		BackoffOptions:     attemptBackoff,
		HashPolicy: []*typev3.HashPolicy{{PolicySpecifier: &typev3.HashPolicy_SourceIp_{
			SourceIp: &typev3.HashPolicy_SourceIp{}, // read only by clusters that hash
		}}},
	}
}
