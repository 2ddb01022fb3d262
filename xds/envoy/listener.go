package envoy

import (
	"net/netip"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/config"
)

const (
	outboundPort = config.OutboundPort
	inboundPort  = config.InboundPort
)

// Names of filter chains.
const (
	httpChain        = "http"
	opaqueChain      = "opaque"
	podChain         = "pod"
	passthroughChain = "passthrough"
	refuseChain      = "refuse"
)

var (
	anyIPv4      = netip.IPv4Unspecified()
	anyIPv6      = netip.IPv6Unspecified()
	loopbackIPv4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopbackIPv6 = netip.IPv6Loopback()
)

// InboundListeners returns the inbound listener in its variants. It passes every connection on as bytes to the address
// that the connection was made to, the pod's own: the caller's sidecar has already parsed and balanced it. An application
// that listens only on loopback stays private.
func InboundListeners() []Resource {
	return listeners(InboundListener.Name, func(f families) *listenerv3.Listener {
		l := &listenerv3.Listener{
			FilterChainMatcher: refusePort(inboundPort),
			FilterChains: []*listenerv3.FilterChain{
				{Name: passthroughChain, Filters: []*listenerv3.Filter{tcpProxy("inbound", InboundCluster)}},
				refuse(),
			},
			ListenerFilters: []*listenerv3.ListenerFilter{originalDst()},
		}
		f.bind(l, anyIPv4, anyIPv6, inboundPort)
		return l
	})
}

// refusePort refuses connections to the listener's own port, which Envoy would otherwise connect to itself without end.
// All other connections pass through.
func refusePort(port uint16) *matcherv3.Matcher {
	m := portMatcher(map[uint16]*matcherv3.Matcher_OnMatch{port: chain(refuseChain)})
	m.OnNoMatch = chain(passthroughChain)
	return m
}

// listeners returns one listener in a variant for each combination of IP families.
func listeners(name string, build func(families) *listenerv3.Listener) []Resource {
	var out []Resource
	for _, f := range allFamilies {
		l := build(f)
		l.Name = name
		l.StatPrefix = name
		out = append(out, Resource{Type: ListenerType, Name: name, Variant: string(f), Message: l})
	}
	return out
}

// originalDst restores the destination that the client chose before the redirect.
func originalDst() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.original_dst",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&originaldstv3.OriginalDst{})},
	}
}

// tcpProxy passes bytes to a cluster for as long as both sides want: no idle timeout.
func tcpProxy(statPrefix, cluster string) *listenerv3.Filter {
	return tcpProxyFilter(tcpProxyTo(statPrefix, cluster))
}

func tcpProxyTo(statPrefix, cluster string) *tcpv3.TcpProxy {
	return &tcpv3.TcpProxy{
		StatPrefix:       statPrefix,
		ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster},
		IdleTimeout:      durationpb.New(0),
	}
}

func tcpProxyFilter(p *tcpv3.TcpProxy) *listenerv3.Filter {
	return networkFilter("envoy.filters.network.tcp_proxy", p)
}

func networkFilter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}}
}

// refuse closes a connection at once.
func refuse() *listenerv3.FilterChain {
	return &listenerv3.FilterChain{Name: refuseChain, Filters: []*listenerv3.Filter{
		networkFilter("envoy.filters.network.direct_response", &directv3.Config{}),
	}}
}
