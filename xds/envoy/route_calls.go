package envoy

import (
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// safeRetries are the failures after which no server can have begun to execute the request.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter#x-envoy-retry-on
const safeRetries = "connect-failure,refused-stream,reset-before-request"

// maxBackoff is where the exponential back-off stops growing.
const maxBackoff = time.Hour

// setTimeout bounds a whole call with all its tries.
//
// The timeout of an HTTP call begins when the request is complete, ends with an upgrade, and is answered with 504 (timeout).
// The timeout of a gRPC call, which may be a stream, begins at once, like the client's own deadline. The smaller of the two
// counts, and the client gets DEADLINE_EXCEEDED (max_stream_duration). A route in Envoy has only one of the two, so a rule
// for both HTTP and gRPC has two routes.
func setTimeout(action *routev3.RouteAction, timeout time.Duration, grpc bool) {
	action.Timeout = durationpb.New(0)
	if !grpc {
		action.Timeout = durationpb.New(timeout)
	}
	if timeout == 0 || !grpc {
		return
	}
	action.MaxStreamDuration = &routev3.RouteAction_MaxStreamDuration{
		MaxStreamDuration:    durationpb.New(timeout),
		GrpcTimeoutHeaderMax: durationpb.New(timeout),
	}
}

// hostRetryPolicy returns the retry policy for routes without one of their own.
func hostRetryPolicy(cfg *config.Mesh) *routev3.RetryPolicy {
	if *cfg.Traffic.Retry.Attempts == 0 {
		return nil
	}
	return retryPolicy(mesh.CallPolicy{}, cfg)
}

// ownRetries reports whether a route has retries of its own, which replace those of its virtual host as a whole.
func ownRetries(calls mesh.CallPolicy) bool {
	return calls.RetryAttempts != nil || calls.OptedIn() || calls.BackendTimeout > 0 || calls.RetryBackoff > 0
}

// retryPolicy returns the safe retries and those that the route opted in to, each at another endpoint after a jittered
// exponential back-off.
//
// In Envoy a retry budget belongs to a cluster, not to a route. Safe retries need a wide budget (config.Retry), others a
// narrow one. So a route that opted in sends with priority HIGH: each priority has its own thresholds and budget, and the
// 20 % are of the calls of such routes only. The two priorities share the endpoints' counts of active requests, but not
// the connections. In such a route the narrow budget bounds the safe retries, too.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/circuit_breaking
func retryPolicy(calls mesh.CallPolicy, cfg *config.Mesh) *routev3.RetryPolicy {
	attempts := uint32(*cfg.Traffic.Retry.Attempts)
	if calls.RetryAttempts != nil {
		attempts = *calls.RetryAttempts
	}
	p := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(attempts)}
	if calls.BackendTimeout > 0 { // per_try_timeout also holds without retries
		p.PerTryTimeout = durationpb.New(calls.BackendTimeout)
	}
	if attempts == 0 { // without a condition Envoy does not retry, whatever the virtual host has
		return p
	}
	on := append([]string{safeRetries}, calls.RetryOn...)
	if len(calls.RetryStatuses) > 0 {
		on = append(on, "retriable-status-codes")
		p.RetriableStatusCodes = calls.RetryStatuses
	}
	p.RetryOn = strings.Join(on, ",")
	// Another try goes to another endpoint if there is one.
	p.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{previousHosts}
	// Envoy chooses again until it gets another endpoint, at most this often. With two endpoints, chance gives the same one
	// several times in a row; with a hash, the other one may come only in one of 32 places.
	p.HostSelectionRetryMaxAttempts = 32
	if calls.RetryBackoff > 0 {
		// Envoy draws from 0 to the interval, so a retry may come before the interval has passed. HTTPRoute's retry.backoff is
		// meant as a lower bound, but Envoy has none.
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(calls.RetryBackoff),
			MaxInterval:  durationpb.New(max(calls.RetryBackoff, min(calls.RetryBackoff, maxBackoff/10)*10)),
		}
	}
	return p
}
