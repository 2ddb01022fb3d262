package envoy

import (
	"net/netip"
	"slices"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	inspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/internal_upstream/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A listener filter that looks at the first bytes cannot be limited to some destinations, and while it looks Envoy drops
// bytes that come together with the client's FIN. So the outbound listener has no such filter. Connections to ports
// without a declared protocol take two more listeners:
//
//	outbound ──hands the socket over──▶ detectName ──inside Envoy──▶ inspectName ──▶ http or opaque
//
// The first passes bytes and FIN on one after the other, never together, so that the second has seen the bytes when the
// FIN comes. It binds no port: Envoy hands a connection over to the listener whose address is the connection's
// destination (use_original_dst).
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/other_features/internal_listener
const (
	detectName  = "detect" // also the name of a filter chain
	inspectName = "inspect"
)

// oneByOne is a buffer limit at which Envoy reads only once, instead of until nothing is left, and reads again when it has
// written everything that it has read.
var oneByOne = wrapperspb.UInt32(1)

// detectListeners returns the listeners that choose HTTP or bytes by the client's first bytes. A client that sends nothing
// is treated as one that waits for the server to speak first.
func detectListeners(table *ProtocolTable, serviceCIDRs, podRanges []netip.Prefix, cfg *config.Mesh) []Resource {
	inspect := internalListener(inspectName)
	inspect.FilterChainMatcher = detect()
	inspect.FilterChains = []*listenerv3.FilterChain{
		{Name: httpChain, Filters: []*listenerv3.Filter{httpConnectionManager(cfg, patienceInside)}},
		{Name: opaqueChain, Filters: opaqueFilters(cfg)},
	}
	inspect.ListenerFilters = append(inspect.ListenerFilters, httpInspector())
	inspect.ListenerFiltersTimeout = durationpb.New(cfg.Detection.Timeout.Duration)
	inspect.ContinueOnListenerFiltersTimeout = true
	return append(outboundVariants(detectName, table, func(f families, view []destination) *listenerv3.Listener {
		l := &listenerv3.Listener{
			TrafficDirection:              corev3.TrafficDirection_OUTBOUND,
			BindToPort:                    wrapperspb.Bool(false),
			PerConnectionBufferLimitBytes: oneByOne,
			// If the listener has a whole port number, it also gets connections to addresses without a Service. They go where the
			// outbound listener would send them.
			FilterChainMatcher: table.destinations(chain(detectName), serviceCIDRs, podRanges),
			FilterChains: []*listenerv3.FilterChain{
				{Name: detectName, Filters: passOn(inspectName)},
				passthrough(),
				refuse(),
			},
			// A listener needs an address, but no connection is redirected to this one.
			Address: socketAddress(loopbackIPv4, outboundPort+1),
		}
		for _, addr := range table.detected(f, view) {
			l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{
				Address: socketAddress(addr.Addr(), uint32(addr.Port())),
			})
		}
		if len(podRanges) > 0 {
			l.FilterChains = append(l.FilterChains, &listenerv3.FilterChain{Name: podChain, Filters: podFilters(cfg)})
		}
		return l
	}), Resource{Type: ListenerType, Name: inspectName, Message: inspect})
}

// detected returns the addresses of the listener detectName. If all Services of a port number need detection, it is the
// wildcard address of the family with this number; otherwise the addresses of the Services that do. Addresses with routes
// of connections are left out.
func (t *ProtocolTable) detected(f families, view []destination) []netip.AddrPort {
	routed := map[uint16]map[netip.Addr]bool{}
	for _, d := range view {
		if routed[d.Port()] == nil {
			routed[d.Port()] = map[netip.Addr]bool{}
		}
		routed[d.Port()][d.Addr()] = true
	}
	var out []netip.AddrPort
	for port, of := range t.ports {
		switch {
		case len(of[mesh.Detect]) == 0:
		case len(of) == 1 && len(routed[port]) == 0:
			if f != onlyIPv6 {
				out = append(out, netip.AddrPortFrom(anyIPv4, port))
			}
			if f != onlyIPv4 {
				out = append(out, netip.AddrPortFrom(anyIPv6, port))
			}
		default:
			for ip := range of[mesh.Detect] {
				if !routed[port][ip] {
					out = append(out, netip.AddrPortFrom(ip, port))
				}
			}
		}
	}
	slices.SortFunc(out, netip.AddrPort.Compare)
	return out
}

// internalListener returns a listener inside Envoy, which gets both addresses of a connection from passOn.
func internalListener(name string) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name:              name,
		StatPrefix:        name,
		TrafficDirection:  corev3.TrafficDirection_OUTBOUND,
		ListenerSpecifier: &listenerv3.Listener_InternalListener{InternalListener: &listenerv3.Listener_InternalListenerConfig{}},
		ListenerFilters:   []*listenerv3.ListenerFilter{originalDst()},
	}
}

// passOn leads to an internal listener, and hands it both addresses of the connection. The addresses go no further;
// otherwise each client would have upstream connections of its own.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/listener_filters/original_dst_filter#internal-listeners
func passOn(name string) []*listenerv3.Filter {
	return []*listenerv3.Filter{
		networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
			OnNewConnection: []*filterstatev3.FilterStateValue{
				sharedOnce("envoy.filters.listener.original_dst.local_ip", destinationAddress),
				sharedOnce("envoy.filters.listener.original_dst.remote_ip", "%DOWNSTREAM_REMOTE_ADDRESS%"),
			},
		}),
		tcpProxy("outbound_"+name, name),
	}
}

func sharedOnce(key, format string) *filterstatev3.FilterStateValue {
	v := filterState(key, format)
	v.SharedWithUpstream = filterstatev3.FilterStateValue_ONCE
	return v
}

// inspectCluster leads to the listener inspectName.
func inspectCluster() Resource {
	c := internalCluster(inspectName)
	c.PerConnectionBufferLimitBytes = oneByOne
	return Resource{Type: ClusterType, Name: inspectName, Message: c}
}

func internalCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		CircuitBreakers:      unlimited(nil),
		TransportSocket:      socket("envoy.transport_sockets.internal_upstream", &internalv3.InternalUpstreamTransport{TransportSocket: rawSocket()}),
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: name,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: &corev3.Address{Address: &corev3.Address_EnvoyInternalAddress{EnvoyInternalAddress: &corev3.EnvoyInternalAddress{
						AddressNameSpecifier: &corev3.EnvoyInternalAddress_ServerListenerName{ServerListenerName: name},
					}}},
				}},
			}}}},
		},
	}
}

func httpInspector() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.http_inspector",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&inspectorv3.HttpInspector{})},
	}
}
