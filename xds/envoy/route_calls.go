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

// safeRetries are the failures in which no server can have begun to execute the request.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_filters/router_filter#x-envoy-retry-on
const safeRetries = "connect-failure,refused-stream,reset-before-request"

// maxBackoff is where the exponential back-off stops to grow.
const maxBackoff = time.Hour

// setTimeout bounds a whole call with all its tries.
//
// Of HTTP calls it begins when the request is complete, ends with an upgrade, and is answered with 504
// (timeout). Of gRPC calls, streams included, it begins at once, as the client's own deadline does; the
// smaller of the two counts, and the client gets DEADLINE_EXCEEDED (max_stream_duration). Envoy takes
// no more than one of them for a route, so a rule for both has a route for each.
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

// hostRetryPolicy is for the routes without one of their own.
func hostRetryPolicy(cfg *config.Mesh) *routev3.RetryPolicy {
	if *cfg.Traffic.Retry.Attempts == 0 {
		return nil
	}
	return retryPolicy(mesh.CallPolicy{}, cfg)
}

// ownRetries reports whether a route's retries are not those of its virtual host, which they then
// replace as a whole.
func ownRetries(calls mesh.CallPolicy) bool {
	return calls.RetryAttempts != nil || calls.OptedIn() || calls.BackendTimeout > 0 || calls.RetryBackoff > 0
}

// retryPolicy has the safe retries, and those that were opted in to, each at another endpoint after a
// jittered exponential back-off.
//
// A retry budget in Envoy belongs to a cluster, not to a route, and safe retries need a wide one
// (config.Retry), others a narrow one. So a route that opted in sends with priority HIGH: thresholds,
// and with them budgets, are for each priority, and the 20 % are counted of the calls of such routes
// only. The endpoints' counts of active requests stay shared, the connections do not. Within such a
// route the narrow budget bounds the safe retries, too.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/upstream/circuit_breaking
func retryPolicy(calls mesh.CallPolicy, cfg *config.Mesh) *routev3.RetryPolicy {
	attempts := uint32(*cfg.Traffic.Retry.Attempts)
	if calls.RetryAttempts != nil {
		attempts = *calls.RetryAttempts
	}
	p := &routev3.RetryPolicy{NumRetries: wrapperspb.UInt32(attempts)}
	if calls.BackendTimeout > 0 { // "per_try_timeout" holds without retries, too
		p.PerTryTimeout = durationpb.New(calls.BackendTimeout)
	}
	if attempts == 0 { // without a condition there is no retry, whatever the virtual host says
		return p
	}
	on := append([]string{safeRetries}, calls.RetryOn...)
	if len(calls.RetryStatuses) > 0 {
		on = append(on, "retriable-status-codes")
		p.RetriableStatusCodes = calls.RetryStatuses
	}
	p.RetryOn = strings.Join(on, ",")
	// Another try goes to another endpoint where there is one.
	p.RetryHostPredicate = []*routev3.RetryPolicy_RetryHostPredicate{previousHosts}
	// Envoy chooses anew until it has one, so often at the most. Of two endpoints the same one comes five times
	// in a row by chance or, of a hash, in one place of 32.
	p.HostSelectionRetryMaxAttempts = 32
	if calls.RetryBackoff > 0 {
		// Envoy draws from 0 to the interval, so a retry may come before it, which HTTPRoute's
		// retry.backoff does not want; Envoy has no lower bound.
		p.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{
			BaseInterval: durationpb.New(calls.RetryBackoff),
			MaxInterval:  durationpb.New(max(calls.RetryBackoff, min(calls.RetryBackoff, maxBackoff/10)*10)),
		}
	}
	return p
}
