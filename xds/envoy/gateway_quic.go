package envoy

import (
	"fmt"
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	headersv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/header_mutation/v3"
	limitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/connection_limit/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	quicv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/quic/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const (
	// alternativeTime is how long a client remembers that there is HTTP/3.
	alternativeTime = 24 * time.Hour
	// quicConnections is how many connections a chain has at a time. Clients of further ones use TCP.
	quicConnections = 10_000
)

// quicListeners returns the listener of HTTP/3 beside the TCP listener of this name, in its variants.
func quicListeners(name string, bind uint16, chains []*listenerv3.FilterChain) []Resource {
	return listeners(name+"/quic", func(f families) *listenerv3.Listener {
		l := &listenerv3.Listener{
			FilterChains:                  chains,
			PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
			UdpListenerConfig: &listenerv3.UdpListenerConfig{
				// Clients of the same machine send packets that the kernel has put together. Without this a large request takes some
				// hundred times as long (findings/envoy-quic-slow-without-gro.sh).
				DownstreamSocketConfig: &corev3.UdpSocketConfig{PreferGro: wrapperspb.Bool(true)},
				QuicOptions: &listenerv3.QuicProtocolOptions{QuicProtocolOptions: &corev3.QuicProtocolOptions{
					MaxConcurrentStreams:        wrapperspb.UInt32(edgeStreams),
					InitialStreamWindowSize:     wrapperspb.UInt32(streamWindow),
					InitialConnectionWindowSize: wrapperspb.UInt32(connectionWindow),
				}},
			},
		}
		f.bind(l, anyIPv4, anyIPv6, uint32(bind))
		overUDP(l)
		return l
	})
}

// quicChain serves over QUIC what the chain with this connection manager serves over TCP, with the same route configuration.
func quicChain(name string, l mesh.Listener, overTCP *hcmv3.HttpConnectionManager) *listenerv3.FilterChain {
	m := proto.Clone(overTCP).(*hcmv3.HttpConnectionManager)
	m.CodecType = hcmv3.HttpConnectionManager_HTTP3
	m.HttpProtocolOptions, m.Http2ProtocolOptions = nil, nil
	m.Http3ProtocolOptions = &corev3.Http3ProtocolOptions{OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true)}
	match := serverNames(l.Hostname)
	match.TransportProtocol = "quic"
	transport := &quicv3.QuicDownstreamTransport{
		DownstreamTlsContext: listenerTLS(l.TLS, "h3"),
		// A request in the client's first packets could be sent again by whoever has seen them.
		EnableEarlyData: wrapperspb.Bool(false),
	}
	if l.TLS.ClientCA != "" {
		// Every connection shows its certificate anew.
		transport.EnableResumption = wrapperspb.Bool(false)
	}
	return &listenerv3.FilterChain{
		Name: name, FilterChainMatch: match, Filters: []*listenerv3.Filter{quicLimit(), connectionManager(m)},
		TransportSocket: &corev3.TransportSocket{
			Name:       "envoy.transport_sockets.quic",
			ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(transport)},
		},
	}
}

// quicLimit bounds the number of connections. The bound of the agent (global_downstream_max_connections) does not count those of QUIC.
func quicLimit() *listenerv3.Filter {
	return networkFilter("envoy.filters.network.connection_limit", &limitv3.ConnectionLimit{
		StatPrefix: "gateway_quic", MaxConnections: wrapperspb.UInt64(quicConnections),
	})
}

// alternative tells clients that HTTP/3 is served at the same port. What a server says of itself is not what the gateway's clients
// can reach.
// https://www.rfc-editor.org/rfc/rfc7838
func alternative(port uint16) *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.header_mutation", &headersv3.HeaderMutation{Mutations: &headersv3.Mutations{
		ResponseMutations: []*mutationv3.HeaderMutation{
			setHeader("alt-svc", fmt.Sprintf(`h3=":%d"; ma=%d`, port, int(alternativeTime.Seconds()))),
		},
	}})
}
