package agent

import (
	"math"
	"net/netip"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// secretsCluster is the cluster of the agent, which serves certificate, key and roots.
func secretsCluster(dir string) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: sds.Cluster,
		// A name with a dot, which statsConfig leaves out: nobody needs 40 series of this in every pod.
		AltStatName:                   "sds.agent",
		ClusterDiscoveryType:          &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:                durationpb.New(time.Second),
		TypedExtensionProtocolOptions: http2(&corev3.Http2ProtocolOptions{}),
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
			// Connections that wait until it is known who is at a pod's address: a question each.
			MaxRequests: wrapperspb.UInt32(math.MaxUint32), MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{
			ClusterName: sds.Cluster,
			Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
				HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
					Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: identity.SocketPath(dir)}}},
				}},
			}}}},
		},
	}
}

// controlPlaneTLS sends the workload's certificate, and requires a certificate of the mesh for the control plane's
// name. No workload has a certificate with a DNS name or an address.
func controlPlaneTLS(host string) *corev3.TransportSocket {
	kind, sni := tlsv3.SubjectAltNameMatcher_DNS, host
	if _, err := netip.ParseAddr(host); err == nil {
		kind, sni = tlsv3.SubjectAltNameMatcher_IP_ADDRESS, "" // RFC 6066: an address is no server name
	}
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls",
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(&tlsv3.UpstreamTlsContext{
			Sni: sni,
			// No session resumption: nobody sends the current certificate in a resumed session.
			MaxSessionKeys: wrapperspb.UInt32(0),
			CommonTlsContext: &tlsv3.CommonTlsContext{
				TlsParams: &tlsv3.TlsParameters{
					TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3, TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				},
				AlpnProtocols:                  []string{"h2"},
				TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds.Config(sds.Workload)},
				ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
					CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
						DefaultValidationContext: &tlsv3.CertificateValidationContext{
							MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
								SanType: kind,
								Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: host}},
							}},
						},
						ValidationContextSdsSecretConfig: sds.Config(sds.Bundle),
					},
				},
			},
		})},
	}
}
