package envoy

import (
	"math"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Clusters that every proxy has.
const (
	// PassthroughCluster carries outbound connections to where the application sent them.
	PassthroughCluster = sds.PlainCluster
	// InboundCluster carries inbound connections on to the pod's own address.
	InboundCluster = "inbound"
	// InboundHTTPCluster carries inbound requests on, at ports where the sidecar looks at requests.
	InboundHTTPCluster = "inbound_http"
	// CallersCluster and CallersHTTPCluster do the same, but the application sees the caller's address (inCallersName).
	CallersCluster     = "inbound_callers"
	CallersHTTPCluster = "inbound_callers_http"
	// PodsCluster carries connections that were made to pods' own addresses (podFilters).
	PodsCluster = sds.PodsCluster
)

// UnresolvedCluster is the name of a cluster that never exists. It takes an invalid backend's share of the requests, and
// Envoy answers them with cluster_not_found_response_code.
const UnresolvedCluster = "unresolved"

// httpOptionsKey is where Envoy looks for a cluster's HTTP options.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// BaseClusters returns the clusters that belong to no Service.
func BaseClusters(cfg *config.Mesh) []Resource {
	var out []Resource
	add := func(name string) *clusterv3.Cluster {
		c := &clusterv3.Cluster{
			Name:                 name,
			ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST},
			LbPolicy:             clusterv3.Cluster_CLUSTER_PROVIDED,
			ConnectTimeout:       durationpb.New(cfg.Traffic.ConnectTimeout.Duration),
			CircuitBreakers:      unlimited(nil),
		}
		watchPeers(c, cfg.Traffic.PeerTimeout.Duration)
		out = append(out, Resource{Type: ClusterType, Name: name, Message: c})
		return c
	}
	add(InboundCluster)
	add(PassthroughCluster)
	refused := NoEndpoints(RefusedCluster)
	refused.Lazy = true
	out = append(out, inspectCluster(), refused)
	if !cfg.MTLS.On() {
		return out
	}
	http := func(c *clusterv3.Cluster) *clusterv3.Cluster {
		c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: httpOptions}
		// The application gets a connection for each connection of a caller, as without a sidecar.
		c.ConnectionPoolPerDownstreamConnection = true
		return c
	}
	http(add(InboundHTTPCluster))
	inCallersNames(add(CallersCluster), InboundCluster)
	inCallersNames(http(add(CallersHTTPCluster)), InboundHTTPCluster)
	add(PodsCluster).TransportSocket = calledByAddressTLS(cfg.MTLS)
	return out
}

// httpCluster balances each request over a Service port's endpoints.
func httpCluster(svc *mesh.Service, key mesh.EndpointsKey, cfg *config.Mesh) *clusterv3.Cluster {
	c := edsCluster(OutboundName(key), svc, key, SpeaksHTTP, cfg)
	watchCalls(c, peerTimeout(svc, cfg))
	safe := cfg.Traffic.Retry
	c.CircuitBreakers = unlimited(retryBudget(safe.BudgetPercent, safe.MinConcurrent))
	// Routes that opted in to retries have a priority of their own (retryPolicy), and so a budget of their own.
	high := unlimited(optedInBudget(svc, cfg)).Thresholds[0]
	high.Priority = corev3.RoutingPriority_HIGH
	c.CircuitBreakers.Thresholds = append(c.CircuitBreakers.Thresholds, high)
	limit(c.CircuitBreakers, svc.Policy)
	c.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: httpOptions}
	if svc.Policies != "" { // Envoy replaces the connections of a changed cluster
		c.Metadata = &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{config.Group: {Fields: map[string]*structpb.Value{
			"policies": structpb.NewStringValue(svc.Policies),
		}}}}
	}
	return c
}

// tcpCluster balances each connection. Its name is the destination address, which is how tcp_proxy
// finds it (and asks for it): see opaqueChain.
func tcpCluster(destination string, svc *mesh.Service, key mesh.EndpointsKey, cfg *config.Mesh) *clusterv3.Cluster {
	c := edsCluster(destination, svc, key, speaksBytes, cfg)
	limitConnections(c.CircuitBreakers, svc.Policy)
	return c
}

// NoEndpoints returns a cluster without endpoints.
func NoEndpoints(name string) Resource {
	return Resource{Type: ClusterType, Name: name, Message: &clusterv3.Cluster{
		Name:                 name,
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
	}}
}

func edsCluster(name string, svc *mesh.Service, key mesh.EndpointsKey, speaks string, cfg *config.Mesh) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name,
		// Metrics name only the Service port, not the protocol and the IP family.
		AltStatName:          OutboundName(mesh.EndpointsKey{Service: key.Service, Port: key.Port, Family: mesh.IPv4}),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig:     &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: OutboundName(key)},
		ConnectTimeout:       durationpb.New(cfg.Traffic.ConnectTimeout.Duration),
		LbPolicy:             lbPolicy(svc),
		CircuitBreakers:      unlimited(nil),
		// Kubernetes decides which endpoints are ready. Envoy must not send to unready ones only because there are many.
		CommonLbConfig: &clusterv3.Cluster_CommonLbConfig{HealthyPanicThreshold: &typev3.Percent{Value: 0}},
	}
	detectOutliers(c, svc.Policy, speaks, cfg)
	secure(c, svc, speaks, cfg.MTLS)
	watchPeers(c, peerTimeout(svc, cfg))
	return c
}

// idleConnection is how long an idle connection to an endpoint is kept for the next call. Servers keep idle connections
// longer (5 s in Node.js and Apache), so no call meets a connection that the server is closing. A server that allows few
// connections gets them back soon after its clients are gone. Envoy's default is an hour.
const idleConnection = 4 * time.Second

// httpOptions make Envoy speak the client's HTTP version to an endpoint, without limits that a direct connection would not
// have.
var httpOptions = toAny(clientsVersion())

func clientsVersion() *upstreamhttpv3.HttpProtocolOptions {
	return &upstreamhttpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: upstreamLimits(),
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions:  upstreamHTTP1(),
				Http2ProtocolOptions: http2Options(),
			},
		},
	}
}

func upstreamLimits() *corev3.HttpProtocolOptions {
	return &corev3.HttpProtocolOptions{
		IdleTimeout:          durationpb.New(idleConnection),
		MaxHeadersCount:      wrapperspb.UInt32(maxHeaders),
		MaxResponseHeadersKb: wrapperspb.UInt32(maxHeadersKB),
	}
}

// upstreamHTTP1 takes answers as they come. If an answer has two lengths the chunks count, and the client does not see the other.
func upstreamHTTP1() *corev3.Http1ProtocolOptions {
	return &corev3.Http1ProtocolOptions{EnableTrailers: true, HeaderKeyFormat: asSent, AllowChunkedLength: true}
}

// unlimited lifts Envoy's default limits of 1,024 connections and requests.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/circuit_breaking
func unlimited(budget *clusterv3.CircuitBreakers_Thresholds_RetryBudget) *clusterv3.CircuitBreakers {
	most := wrapperspb.UInt32(math.MaxUint32)
	return &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{
		MaxConnections:     most,
		MaxPendingRequests: most,
		MaxRequests:        most,
		RetryBudget:        budget,
	}}}
}

// optedInBudget returns the budget of the Service, or else that of the mesh.
func optedInBudget(svc *mesh.Service, cfg *config.Mesh) *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	own := svc.Traffic.RetryBudget
	if own == nil {
		budget := retryBudget(cfg.Traffic.RouteRetry.BudgetPercent, cfg.Traffic.RouteRetry.MinConcurrent)
		// Our percentage is of the calls without their retries. Envoy's includes the retries, so that its 20 % would let a storm
		// grow by a quarter.
		percent := budget.BudgetPercent.Value
		budget.BudgetPercent.Value = 100 * percent / (100 + percent)
		return budget
	}
	return &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: float64(own.Percent)},
		MinRetryConcurrency: wrapperspb.UInt32(own.MinConcurrent),
	}
}

func retryBudget(percent, minConcurrent *int32) *clusterv3.CircuitBreakers_Thresholds_RetryBudget {
	return &clusterv3.CircuitBreakers_Thresholds_RetryBudget{
		BudgetPercent:       &typev3.Percent{Value: float64(*percent)},
		MinRetryConcurrency: wrapperspb.UInt32(uint32(*minConcurrent)),
	}
}

// ads returns ADS as the source of configuration. It has no first-fetch timeout, so Envoy never serves with half of its
// configuration.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
		InitialFetchTimeout:   durationpb.New(0),
	}
}
