package envoy

import (
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// limit sets the limits of a Service's annotations. Envoy counts for each cluster and priority, over all workers.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/circuit_breaking
func limit(breakers *clusterv3.CircuitBreakers, p config.ServicePolicy) {
	for _, t := range breakers.Thresholds {
		set := func(field **wrapperspb.UInt32Value, most uint32) {
			if most > 0 {
				*field = wrapperspb.UInt32(most)
			}
		}
		set(&t.MaxConnections, p.MaxConnections)
		set(&t.MaxPendingRequests, p.MaxPendingRequests)
		set(&t.MaxRequests, p.MaxRequests)
	}
}

// limitConnections is limit for bytes, which have no requests. A connection that is being made must not count as a waiting
// request.
func limitConnections(breakers *clusterv3.CircuitBreakers, p config.ServicePolicy) {
	limit(breakers, config.ServicePolicy{MaxConnections: p.MaxConnections})
}

// detectOutliers ejects an endpoint after several failures in a row. Failures to connect count as 503.
//
// Envoy ejects only while the share stays within max_ejection_percent, without rounding up: one of two endpoints at 50, and
// never the only one (always_eject_one_host is off). It does not check again when endpoints go, so the share of ejected
// ones may become larger. Then the panic threshold makes Envoy send calls to all endpoints that Kubernetes reports as ready.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/outlier
func detectOutliers(c *clusterv3.Cluster, p config.ServicePolicy, speaks string, cfg *config.Mesh) {
	o := p.Outliers
	if o == nil {
		failures := uint32(*cfg.Traffic.ConnectFailures)
		if p.ConnectFailures != nil {
			failures = *p.ConnectFailures
		}
		if speaks == speaksBytes {
			failures = min(failures, unreachableOpaque)
		}
		detectUnreachable(c, failures)
		return
	}
	failures := o.ConsecutiveErrors
	if speaks == speaksBytes {
		failures = min(failures, unreachableOpaque)
	}
	c.OutlierDetection = &clusterv3.OutlierDetection{
		Consecutive_5Xx:      wrapperspb.UInt32(failures),
		Interval:             durationpb.New(o.Interval),
		BaseEjectionTime:     durationpb.New(o.EjectionTime),
		MaxEjectionPercent:   wrapperspb.UInt32(o.MaxEjectedPercent),
		EnforcingSuccessRate: wrapperspb.UInt32(0), // on by default in Envoy
	}
	c.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: float64(100 - o.MaxEjectedPercent)}
}

// Half of the endpoints are ejected at most, as a user may ask for with annotations.
const unreachablePercent = 50

// unreachableOpaque is the most failures of opaque TCP: of the five attempts of a connection, the last two go elsewhere.
const unreachableOpaque = 3

// Bounds of the time for which an unreachable endpoint is left out. Kubernetes takes those of a lost node out within a minute. A
// container that starts again in place must not wait long.
const (
	unreachableCheck = 5 * time.Second
	unreachableFirst = 10 * time.Second
	unreachableMost  = time.Minute
)

// detectUnreachable ejects an endpoint after several failures to connect in a row; 0 turns that off. Each call would wait for the
// connect timeout before it is retried elsewhere, until Kubernetes knows that the node is gone.
//
// Envoy counts timeouts and resets as well, and starts again with each request that gets a connection. So they count where a burst
// of calls fails together with no call in between (findings/envoy-local-origin-failures-in-bursts.sh).
func detectUnreachable(c *clusterv3.Cluster, failures uint32) {
	if failures == 0 {
		return
	}
	none := wrapperspb.UInt32(0)
	c.OutlierDetection = &clusterv3.OutlierDetection{
		SplitExternalLocalOriginErrors:         true,
		ConsecutiveLocalOriginFailure:          wrapperspb.UInt32(failures),
		EnforcingConsecutiveLocalOriginFailure: wrapperspb.UInt32(100),
		Interval:                               durationpb.New(unreachableCheck),
		BaseEjectionTime:                       durationpb.New(unreachableFirst),
		MaxEjectionTime:                        durationpb.New(unreachableMost),
		MaxEjectionPercent:                     wrapperspb.UInt32(unreachablePercent),
		EnforcingConsecutive_5Xx:               none,
		EnforcingConsecutiveGatewayFailure:     none,
		EnforcingSuccessRate:                   none,
		EnforcingLocalOriginSuccessRate:        none,
	}
	c.CommonLbConfig.HealthyPanicThreshold = &typev3.Percent{Value: 100 - unreachablePercent}
}

var lbPolicies = map[string]clusterv3.Cluster_LbPolicy{
	"":                  clusterv3.Cluster_LEAST_REQUEST,
	config.LeastRequest: clusterv3.Cluster_LEAST_REQUEST,
	config.RoundRobin:   clusterv3.Cluster_ROUND_ROBIN,
	config.Random:       clusterv3.Cluster_RANDOM,
	config.RingHash:     clusterv3.Cluster_RING_HASH,
	config.Maglev:       clusterv3.Cluster_MAGLEV,
}

func lbPolicy(svc *mesh.Service) clusterv3.Cluster_LbPolicy {
	if svc.Policy.LoadBalancing == "" && svc.ClientIPAffinity {
		// The source address is that of the caller's pod, so each client pod keeps one endpoint, as with kube-proxy.
		return clusterv3.Cluster_MAGLEV
	}
	return lbPolicies[svc.Policy.LoadBalancing]
}

// hashPolicies returns what the backends of a route hash, each once. Envoy has them for a route, not for a cluster, and
// mixes all into one hash, which backends that hash different things share.
func hashPolicies(backends []mesh.Backend) []*routev3.RouteAction_HashPolicy {
	var out []*routev3.RouteAction_HashPolicy
	seen := map[config.HashBy]bool{}
	for _, b := range backends {
		if b.HashBy == nil || seen[*b.HashBy] {
			continue
		}
		seen[*b.HashBy] = true
		out = append(out, hashPolicy(*b.HashBy))
	}
	return out
}

func hashPolicy(by config.HashBy) *routev3.RouteAction_HashPolicy {
	switch by.Source {
	case config.ByHeader:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Header_{
			Header: &routev3.RouteAction_HashPolicy_Header{HeaderName: by.Name},
		}}
	case config.ByCookie:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_Cookie_{
			// With a TTL, even 0, Envoy sets the cookie for a client without one.
			Cookie: &routev3.RouteAction_HashPolicy_Cookie{Name: by.Name, Ttl: durationpb.New(by.TTL), Path: "/"},
		}}
	default:
		return &routev3.RouteAction_HashPolicy{PolicySpecifier: &routev3.RouteAction_HashPolicy_ConnectionProperties_{
			ConnectionProperties: &routev3.RouteAction_HashPolicy_ConnectionProperties{SourceIp: true},
		}}
	}
}
