package envoy

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	ratelimitconfigv3 "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	descriptorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	filterstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/common/set_filter_state/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ratelimit/v3"
	setstatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/set_filter_state/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// PodAddressType is the type of resources that the agents of sidecars ask for.
const PodAddressType = sds.AddressType

// PodAddress returns the resource with the identity at an address (mesh.Pods.IdentityAt).
func PodAddress(addr netip.AddrPort, identity string) Resource {
	return Resource{Type: PodAddressType, Name: sds.AddressName(addr), Lazy: true, Message: wrapperspb.String(identity)}
}

// podFilters pass bytes on to a pod's own address, for example of a headless Service. Envoy keeps nothing for such an
// address. A cluster on demand would take some 40 kB, Envoy 1.40 would keep it for good, and would not ask again for one
// that was removed. Instead Envoy asks the agent about each connection. Its only filter that can ask before the client has
// sent anything, and can use the answer, is the rate limit filter.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/listeners/network_filters/rate_limit_filter
//
// The connection waits for the answer, and is closed without one. It never goes to an address whose identity was not
// checked.
func podFilters(cfg *config.Mesh) []*listenerv3.Filter {
	return []*listenerv3.Filter{
		networkFilter("envoy.filters.network.ratelimit", &ratelimitv3.RateLimit{
			StatPrefix: "pod_addresses",
			Domain:     sds.AddressDomain,
			Descriptors: []*descriptorv3.RateLimitDescriptor{{
				Entries: []*descriptorv3.RateLimitDescriptor_Entry{{Key: sds.AddressKey, Value: destinationAddress}},
			}},
			Timeout:         durationpb.New(cfg.OnDemand.Timeout.Duration),
			FailureModeDeny: true,
			RateLimitService: &ratelimitconfigv3.RateLimitServiceConfig{
				TransportApiVersion: corev3.ApiVersion_V3,
				GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
					EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sds.Cluster},
				}},
			},
		}),
		networkFilter("envoy.filters.network.set_filter_state", &setstatev3.Config{
			OnNewConnection: []*filterstatev3.FilterStateValue{
				answered("envoy.tcp_proxy.cluster", sds.AddressCluster),
				answered("envoy.network.upstream_subject_alt_names", sds.AddressIdentity),
			},
		}),
		// The answer names the cluster. This one does not exist, for connections without an answer.
		tcpProxy("outbound_pod", UnresolvedCluster),
	}
}

// answered is an object in a connection's filter state, made from a field of the agent's answer.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/advanced/well_known_filter_state
func answered(key, field string) *filterstatev3.FilterStateValue {
	v := filterState(key, "%DYNAMIC_METADATA(envoy.filters.network.ratelimit:"+field+")%")
	v.GetFormatString().OmitEmptyValues = true
	v.SkipIfEmpty = true
	return v
}
