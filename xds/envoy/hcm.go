package envoy

import (
	"math"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	preservecasev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	previousprioritiesv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/priority/previous_priorities/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
)

// destinationHeader carries the key of a request's scope: the destination address, or AskScope. A client's value is
// overwritten, and no server ever sees the header.
const destinationHeader = "x-mizzen-destination"

// Envoy's default limits on headers (100 headers, 60 KiB) are below what servers allow; these are
// above the defaults of the common ones (Go: 1 MiB), so the server's own limit is the one that counts.
const (
	maxHeaders   = 1000
	maxHeadersKB = 1024
)

// maxHeaderFieldKB is the longest HTTP/2 header that Envoy accepts, as it is on the wire. A longer one ends the connection,
// because Envoy stops in the middle of its compression, on which all later headers depend.
const maxHeaderFieldKB = 256

// smallestWindow is that of HTTP/2.
const smallestWindow = 1<<16 - 1

// maxStreams is the most that HTTP/2 allows on one connection, so that the server's own limit counts.
const maxStreams = math.MaxInt32

// asSent passes HTTP/1 header names and reason phrases on as they were written.
var asSent = &corev3.Http1ProtocolOptions_HeaderKeyFormat{
	HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{StatefulFormatter: &corev3.TypedExtensionConfig{
		Name:        "envoy.http.stateful_header_formatters.preserve_case",
		TypedConfig: toAny(&preservecasev3.PreserveCaseFormatterConfig{ForwardReasonPhrase: true}),
	}},
}

// previousHosts makes a retry choose another endpoint.
var previousHosts = &routev3.RetryPolicy_RetryHostPredicate{
	Name:       "envoy.retry_host_predicates.previous_hosts",
	ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{})},
}

// previousLevels makes retries go on to further endpoints (loadAssignment) after two tries at those near the caller: there may be but one, which
// Envoy ejects only after more failures.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/http/http_routing#retry-semantics
var previousLevels = &routev3.RetryPolicy_RetryPriority{
	Name:       "envoy.retry_priorities.previous_priorities",
	ConfigType: &routev3.RetryPolicy_RetryPriority_TypedConfig{TypedConfig: toAny(&previousprioritiesv3.PreviousPrioritiesConfig{UpdateFrequency: 2})},
}

// How long Envoy waits for a client to read its answer, if it closes the connection after the answer. What the client has
// not read after this time is lost. With 0 Envoy closes as soon as it has written, even while the client is still sending.
// On a socket that is harmless, because the kernel keeps the answer. Inside Envoy the answer would be lost, so there Envoy
// waits for the client to close. Envoy's default is a second everywhere.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/filters/network/http_connection_manager/v3/http_connection_manager.proto
const (
	patienceForSockets  = 0               // of the pod's own application
	patienceInside      = 2 * time.Second // of connections inside Envoy; an answer that breaks off ends so much later
	patienceForSidecars = 5 * time.Second
)

// httpConnectionManager is the one HTTP filter chain of the outbound side.
func httpConnectionManager(cfg *config.Mesh, patience time.Duration) *listenerv3.Filter {
	m := transparent("outbound_http")
	m.DelayedCloseTimeout = durationpb.New(patience)
	m.RouteSpecifier = scopedRoutes()
	m.EarlyHeaderMutationExtensions = earlyMutation(setDestinationHeader())
	m.HttpFilters = append(demandFilters(cfg), sessionFilter(), routerFilter())
	m.LocalReplyConfig = localReplies(Outbound)
	m.AccessLog = append(answerLogs(Outbound), GRPCErrors())
	// If a message has two lengths the chunks count, and the server does not see the other. A sidecar that judges requests
	// refuses such a message (inbound_http.go). https://www.rfc-editor.org/rfc/rfc9112#section-6.3
	m.HttpProtocolOptions.AllowChunkedLength = true
	// The application may abandon as many of its own calls as it likes.
	m.Http2ProtocolOptions.StreamResetBurst = wrapperspb.UInt64(math.MaxInt32)
	m.Http2ProtocolOptions.StreamResetRate = wrapperspb.UInt64(math.MaxInt32)
	// The window also bounds how much of an answer waits in Envoy for the client's window, and is lost if the server resets the
	// stream after it (docs/http.md). A small window costs nothing over loopback. The bound for requests is repeatable.
	m.Http2ProtocolOptions.InitialStreamWindowSize = wrapperspb.UInt32(smallestWindow)
	return connectionManager(m)
}

func connectionManager(m *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	copyReferer(m)
	return networkFilter("envoy.filters.network.http_connection_manager", m)
}

// transparent returns a connection manager without limits and timeouts that a direct connection would not have. It adds
// nothing to requests but x-forwarded-proto, which Envoy always sets. docs/http.md lists what Envoy cannot pass on.
func transparent(statPrefix string) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix:     statPrefix,
		CodecType:      hcmv3.HttpConnectionManager_AUTO,
		UpgradeConfigs: upgradeConfigs(upgrades),
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{
			AcceptHttp_10:         true,
			DefaultHostForHttp_10: "localhost", // HTTP/1.0 needs no Host, but Envoy does
			HeaderKeyFormat:       asSent,
			EnableTrailers:        true,
			AllowCustomMethods:    true,
			IgnoreHttp_11Upgrade:  otherUpgrades,
			// Passes "GET http://host/path" on as "GET /path" with that host. Otherwise Envoy would refuse it.
			AllowAbsoluteUrl: wrapperspb.Bool(true),
		},
		Http2ProtocolOptions: http2Options(),
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(0),
			MaxHeadersCount: wrapperspb.UInt32(maxHeaders),
		},
		MaxRequestHeadersKb: wrapperspb.UInt32(maxHeadersKB),
		StreamIdleTimeout:   durationpb.New(0),
		// Otherwise a stream idle timeout cuts off a client that reads slowly, even if the route sets none.
		StreamFlushTimeout:         durationpb.New(0),
		GenerateRequestId:          wrapperspb.Bool(false),
		SkipXffAppend:              true,
		Proxy_100Continue:          true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

// http2Options keeps Envoy from ending a connection because of frames that the protocol allows. The bound on frames that
// wait to be written stays, because it bounds Envoy's memory.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/protocol.proto#config-core-v3-http2protocoloptions
func http2Options() *corev3.Http2ProtocolOptions {
	most := wrapperspb.UInt32(math.MaxInt32)
	return &corev3.Http2ProtocolOptions{
		AllowConnect:                                 true,
		MaxConcurrentStreams:                         wrapperspb.UInt32(maxStreams),
		OverrideStreamErrorOnInvalidHttpMessage:      wrapperspb.Bool(true), // ends one bad stream, not the connection
		MaxHeaderFieldSizeKb:                         wrapperspb.UInt32(maxHeaderFieldKB),
		MaxConsecutiveInboundFramesWithEmptyPayload:  most,
		MaxInboundPriorityFramesPerStream:            most,
		MaxInboundWindowUpdateFramesPerDataFrameSent: most,
	}
}

func routerFilter() *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})
}

// earlyMutation changes headers of a request before anything else in Envoy reads them.
func earlyMutation(m *earlyv3.HeaderMutation) []*corev3.TypedExtensionConfig {
	return []*corev3.TypedExtensionConfig{{Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: toAny(m)}}
}

func scopedRoutes() *hcmv3.HttpConnectionManager_ScopedRoutes {
	return &hcmv3.HttpConnectionManager_ScopedRoutes{ScopedRoutes: &hcmv3.ScopedRoutes{
		Name: "outbound",
		ScopeKeyBuilder: &hcmv3.ScopedRoutes_ScopeKeyBuilder{Fragments: []*hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder{{
			Type: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_{
				HeaderValueExtractor: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor{
					Name: destinationHeader,
					// No separator, so the whole header is element 0.
					ExtractType: &hcmv3.ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor_Index{Index: 0},
				},
			},
		}}},
		RdsConfigSource: ads(),
		ConfigSpecifier: &hcmv3.ScopedRoutes_ScopedRds{ScopedRds: &hcmv3.ScopedRds{ScopedRdsConfigSource: ads()}},
	}}
}

func setDestinationHeader() *earlyv3.HeaderMutation {
	return &earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{setHeader(destinationHeader, destinationAddress)}}
}

// setHeader replaces a header by a value, which may contain Envoy's variables.
func setHeader(name, value string) *mutationv3.HeaderMutation {
	return &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
		Header:       &corev3.HeaderValue{Key: name, Value: value},
		AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
	}}}
}

func and(conditions ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	if len(conditions) == 1 { // Envoy wants at least two in an and_filter
		return conditions[0]
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: conditions},
	}}
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(m)}}
}
