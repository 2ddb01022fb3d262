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

// controlPlaneRetry bounds how long Envoy waits until it asks again for the control plane's address, or calls it again. A
// pod that starts waits for both.
const controlPlaneRetry = 2 * time.Second

// httpOptionsKey is where Envoy looks for a cluster's HTTP options.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// Bootstrap gives Envoy's static configuration: who it is, where the control plane is, where its
// admin interface is and which statistics it keeps. Everything else comes over ADS. It is pure.
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
		// A cluster's statistics are made at its first request: 9 kB for each Service never called.
		DeferredStatOptions: &bootstrapv3.Bootstrap_DeferredStatOptions{EnableDeferredCreationStats: true},
		LayeredRuntime:      layeredRuntime(s),
		OverloadManager:     overloadManager(),
		Watchdogs:           watchdogs(),
		BootstrapExtensions: []*corev3.TypedExtensionConfig{internalListeners()},
	}, nil
}

// internalListeners has Envoy take listeners that are not sockets, as the one that detects protocols is.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/other_features/internal_listener
func internalListeners() *corev3.TypedExtensionConfig {
	return &corev3.TypedExtensionConfig{Name: "envoy.bootstrap.internal_listener", TypedConfig: toAny(&internalv3.InternalListener{})}
}

// admin listens on a Unix socket: whoever reaches the admin interface can stop Envoy and read its
// configuration, and TCP on loopback would be open to every container of the pod.
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
					// Envoy waits a random time between 0 and a bound that doubles with each failure. Its
					// own bounds, 0.5 s and 30 s, leave a pod that starts waiting for long after an outage.
					RetryPolicy: &corev3.RetryPolicy{RetryBackOff: &corev3.BackoffStrategy{
						BaseInterval: durationpb.New(100 * time.Millisecond),
						MaxInterval:  durationpb.New(controlPlaneRetry),
					}},
				}},
			}},
		},
	}
}

// ads without a first-fetch timeout: otherwise Envoy gives up waiting after 15 s and calls itself
// ready with no listeners, and captured connections would be refused.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}

// controlPlane is an HTTP/2 cluster. Its keepalive notices a peer that went away without a word.
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
		// With the handshake, at a control plane to which all sidecars come at once.
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

// dnsCluster resolves to every address that the pod has an IP family for. The address is the
// ClusterIP of a Service and hardly ever changes, hence the unhurried refresh; failures, as at the
// start of a pod whose DNS is not there yet, are tried again soon.
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

// absolute ends a full cluster name with a dot. Such a name has fewer dots than the "ndots:5" of a
// pod's resolv.conf, so that the resolver would first try every search domain, at every refresh.
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

// layeredRuntime lifts limits, and turns the log of the sidecar's own answers on.
//
// It has detection of HTTP see at the first wrong letter that something is no HTTP. Envoy's newer parser takes any word for
// a method, and waits for the end of the line, which in other protocols never comes.
//
// It has resets inside of Envoy arrive as ends. Otherwise an ordinary end behind an answer arrives as a reset on an undeclared
// port, whose connections go through Envoy twice, and what the client has not read yet is lost (test/transparency, "slow
// reader"). https://github.com/envoyproxy/envoy/pull/46713
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

// watchdogs have Envoy's threads report every two seconds, and not ten times a second as by default: that is most of what
// an idle Envoy does. Envoy counts threads that report late (server.*.watchdog_miss), and does no more.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/operations/performance#watchdog
func watchdogs() *bootstrapv3.Watchdogs {
	w := &bootstrapv3.Watchdog{MissTimeout: durationpb.New(4 * time.Second), MegamissTimeout: durationpb.New(10 * time.Second)}
	return &bootstrapv3.Watchdogs{MainThreadWatchdog: w, WorkerWatchdog: w}
}

// overloadManager knowingly sets no limit of our own: a connection refused by the sidecar would be
// one that the application could have had. What limits connections is the container's number of
// file descriptors. (With no word about it, Envoy warns at every start.)
func overloadManager() *overloadv3.OverloadManager {
	return &overloadv3.OverloadManager{ResourceMonitors: []*overloadv3.ResourceMonitor{{
		Name: "envoy.resource_monitors.global_downstream_max_connections",
		ConfigType: &overloadv3.ResourceMonitor_TypedConfig{TypedConfig: toAny(&downstreamv3.DownstreamConnectionsConfig{
			MaxActiveDownstreamConnections: math.MaxInt32,
		})},
	}}}
}

// toAny packs deterministically, for the same bytes each time.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("pack %T: %v", m, err)) // invalid UTF-8 in a constant
	}
	return a
}
