package agent

import (
	"fmt"
	"math"
	"net/netip"
	"strings"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	overloadv3 "github.com/envoyproxy/go-control-plane/envoy/config/overload/v3"
	internalv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/bootstrap/internal_listener/v3"
	commondnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/common/dns/v3"
	dnsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/dns/v3"
	downstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/resource_monitors/downstream_connections/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/internal/answers"
)

// controlPlaneCluster is the static cluster of the ADS server.
const controlPlaneCluster = "mizzen-control-plane"

// controlPlaneRetry bounds Envoy's wait before it resolves or calls the control plane's address again. A starting pod
// waits for both.
const controlPlaneRetry = 2 * time.Second

// httpOptionsKey is the key of a cluster's HTTP options.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// Bootstrap returns Envoy's static configuration: its node, the control plane, the admin interface and the statistics
// to keep. Everything else comes over ADS. It is pure.
func Bootstrap(s Settings) (*bootstrapv3.Bootstrap, error) {
	cluster, err := controlPlane(s)
	if err != nil {
		return nil, err
	}
	clusters := []*clusterv3.Cluster{cluster}
	if s.IdentityAddress != "" {
		clusters = append(clusters, secretsCluster(s.Dir))
	}
	return &bootstrapv3.Bootstrap{
		Node:             s.Node.Proto(),
		Admin:            admin(s.adminSocket()),
		DynamicResources: dynamicResources(),
		StaticResources:  &bootstrapv3.Bootstrap_StaticResources{Clusters: clusters},
		StatsConfig:      statsConfig(),
		// Create a cluster's statistics at its first request, which saves 9 kB for each Service that is never called.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
		LayeredRuntime:      layeredRuntime(s),
		OverloadManager:     overloadManager(),
		Watchdogs:           watchdogs(),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{internalListeners()},
	}, nil
}

// internalListeners enables listeners without sockets, such as the one that detects protocols.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/other_features/internal_listener
func internalListeners() *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: "envoy.bootstrap.internal_listener", TypedConfig: toAny(&internalv3.InternalListener{})}
}

// admin listens on a Unix socket, because the admin interface can stop Envoy and show its configuration. TCP on
// loopback would be open to every container of the pod.
func admin(path string) *bootstrapv3.Admin {
	return &bootstrapv3.Admin{
		Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path, Mode: 0o600}}},
	}
}

func dynamicResources() *bootstrapv3.Bootstrap_DynamicResources {
	return &bootstrapv3.Bootstrap_DynamicResources{
		LdsConfig: ads(),
		CdsConfig: ads(),
		AdsConfig: &corev3.ApiConfigSource{
			ApiType:                   corev3.ApiConfigSource_DELTA_GRPC,
			TransportApiVersion:       corev3.ApiVersion_V3,
			SetNodeOnFirstMessageOnly: true,
			GrpcServices: []*corev3.GrpcService{{
				TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{
					ClusterName: controlPlaneCluster,
					// Envoy waits a random time between 0 and a bound that doubles with each failure. With the default
					// bounds, 0.5 s and 30 s, a starting pod would wait long after an outage.
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(100 * time.Millisecond),
						MaxInterval:  durationpb.New(controlPlaneRetry),
					}},
				}},
			}},
		},
	}
}

// ads has no first-fetch timeout. Otherwise Envoy would stop waiting after 15 s and report ready without listeners, and
// captured connections would be refused.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// controlPlane is an HTTP/2 cluster. Its keepalive notices a vanished peer.
func controlPlane(s Settings) (*clusterv3.Cluster, error) {
	host, port, err := s.controlPlane()
	if err != nil {
		return nil, err
	}
	c := &clusterv3.Cluster{
		Name:           controlPlaneCluster,
		ConnectTimeout: durationpb.New(time.Second),
		TypedExtensionProtocolOptions: http2(&corev3.Http2ProtocolOptions{ConnectionKeepalive: &corev3.KeepaliveSettings{
			Interval:       durationpb.New(30 * time.Second),
			Timeout:        durationpb.New(10 * time.Second),
			IntervalJitter: &typev3.Percent{Value: 15},
		}}),
	}
	if s.IdentityAddress != "" {
		c.TransportSocket = controlPlaneTLS(host)
		// Includes the handshake, with a control plane that all sidecars call at once.
		c.ConnectTimeout = durationpb.New(3 * time.Second)
	}
	if _, err := netip.ParseAddr(host); err == nil {
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}
	} else {
		c.ClusterDiscoveryType = &clusterv3.Cluster_ClusterType{ClusterType: dnsCluster(s.Node.IPs)}
		host = absolute(host)
	}
	c.LoadAssignment = loadAssignment(host, port)
	return c, nil
}

// http2 makes a cluster speak HTTP/2.
func http2(o *corev3.Http2ProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{httpOptionsKey: toAny(&upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: o},
			},
		},
	})}
}

// dnsCluster resolves a name to addresses in the pod's IP families. The address is the ClusterIP of a Service and
// hardly ever changes, so the refresh is slow. It retries failures soon, for example at the start of a pod whose DNS
// does not work yet.
func dnsCluster(podIPs []netip.Addr) *clusterv3.Cluster_CustomClusterType {
	return &clusterv3.Cluster_CustomClusterType{
		Name: "envoy.cluster.dns",
		TypedConfig: toAny(&dnsv3.DnsCluster{
			DnsLookupFamily: lookupFamily(podIPs),
			DnsRefreshRate:  durationpb.New(30 * time.Second),
			DnsJitter:       durationpb.New(5 * time.Second),
			DnsFailureRefreshRate: &dnsv3.DnsCluster_RefreshRate{
				BaseInterval: durationpb.New(200 * time.Millisecond),
				MaxInterval:  durationpb.New(controlPlaneRetry),
			},
		}),
	}
}

func lookupFamily(podIPs []netip.Addr) commondnsv3.DnsLookupFamily {
	var v4, v6 bool
	for _, ip := range podIPs {
		v4, v6 = v4 || ip.Is4(), v6 || ip.Is6()
	}
	switch {
	case v4 && !v6:
		return commondnsv3.DnsLookupFamily_V4_ONLY
	case v6 && !v4:
		return commondnsv3.DnsLookupFamily_V6_ONLY
	}
	return commondnsv3.DnsLookupFamily_ALL
}

// absolute appends a dot to a full cluster name. The name has fewer dots than the "ndots:5" of a pod's resolv.conf, so
// without the final dot the resolver would first try every search domain, at every refresh.
func absolute(host string) string {
	if strings.Contains(host, ".svc.") && !strings.HasSuffix(host, ".") {
		return host + "."
	}
	return host
}

func loadAssignment(host string, port uint16) *endpointv3.ClusterLoadAssignment {
	return &endpointv3.ClusterLoadAssignment{
		ClusterName: controlPlaneCluster,
		Endpoints: []*endpointv3.LocalityLbEndpoints{{LbEndpoints: []*endpointv3.LbEndpoint{{
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
					Address:       host,
					PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
				}}},
			}},
		}}}},
	}
}

// layeredRuntime lifts limits, and turns on the log of the sidecar's own answers.
//
// It makes HTTP detection reject other protocols at the first wrong letter. Envoy's newer parser accepts any word as a
// method and waits for the end of the line, which never comes in other protocols.
//
// It turns resets between Envoy's internal listeners into ends. Otherwise an ordinary end after an answer would arrive
// as a reset on an undeclared port, whose connections go through Envoy twice, and unread data would be lost
// (test/transparency, "slow reader"). https://github.com/envoyproxy/envoy/pull/46713
//
// On the size of a compiled regular expression: by default Envoy refuses a whole route configuration for one path pattern
// of some length. https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/type/matcher/v3/regex.proto
//
// On streams that a client resets: by default Envoy ends an HTTP/2 connection of which half of 500 calls were given up
// within a second, as calls are that are made twice and the slower one dropped. Where others call, the rate of resets
// stays bounded (stream_reset_rate).
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/runtime
func layeredRuntime(s Settings) *bootstrapv3.LayeredRuntime {
	values := map[string]*structpb.Value{
		"envoy.reloadable_features.http_inspector_use_balsa_parser":      structpb.NewBoolValue(false),
		"envoy.reloadable_features.enable_send_rst_on_user_space_socket": structpb.NewBoolValue(false),
		"re2.max_program_size.error_level":                               structpb.NewNumberValue(32 << 10),
		"overload.premature_reset_total_stream_count":                    structpb.NewNumberValue(math.MaxUint32),
	}
	if s.LogAnswers {
		values[answers.LogKey] = structpb.NewNumberValue(100) // per cent
	}
	return &bootstrapv3.LayeredRuntime{Layers: []*bootstrapv3.RuntimeLayer{{
		Name:           "mizzen",
		LayerSpecifier: &bootstrapv3.RuntimeLayer_StaticLayer{StaticLayer: &structpb.Struct{Fields: values}},
	}}}
}

// watchdogs make Envoy's threads report every two seconds, in place of ten times a second: by default this is most of
// an idle Envoy's work. Envoy only counts threads that report late (server.*.watchdog_miss).
// https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/performance#watchdog
func watchdogs() *bootstrapv3.Watchdogs {
	w := &bootstrapv3.Watchdog{MissTimeout: durationpb.New(4 * time.Second), MegamissTimeout: durationpb.New(10 * time.Second)}
	return &bootstrapv3.Watchdogs{MainThreadWatchdog: w, WorkerWatchdog: w}
}

// overloadManager deliberately sets no limit: the application could have accepted a connection that the sidecar
// refuses. The container's number of file descriptors limits connections. (Without an explicit setting, Envoy warns at
// every start.)
func overloadManager() *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: toAny(&downstreamv3.DownstreamConnectionsConfig{
			MaxActiveDownstreamConnections: math.MaxInt32,
		})},
	}}}
}

// toAny packs deterministically: the same message gives the same bytes.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("pack %T: %v", m, err)) // invalid UTF-8 in a constant
	}
	return a
}
