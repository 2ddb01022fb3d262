package envoy

import (
	"math"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	ondemandv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/on_demand/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	preservecasev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/header_formatters/preserve_case/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
)

// destinationHeader carries the destination address from the start of a request to the choice of its
// scope. Whatever a client sends in it is overwritten, and no server ever sees it.
const destinationHeader = "x-mizzen-destination"

// Envoy's default limits on headers (100 headers, 60 KiB) are below what servers allow; these are
// above the defaults of the common ones (Go: 1 MiB), so the server's own limit is the one that counts.
const (
	maxHeaders   = 1000
	maxHeadersKB = 1024
)

// maxStreams is the most that HTTP/2 allows on one connection: the server's own limit counts.
const maxStreams = math.MaxInt32

// asSent passes HTTP/1 header names and reason phrases on as they were written.
var asSent = &corev3.Http1ProtocolOptions_HeaderKeyFormat{
	HeaderFormat: &corev3.Http1ProtocolOptions_HeaderKeyFormat_StatefulFormatter{StatefulFormatter: &corev3.TypedExtensionConfig{
		Name:        "envoy.http.stateful_header_formatters.preserve_case",
		TypedConfig: toAny(&preservecasev3.PreserveCaseFormatterConfig{ForwardReasonPhrase: true}),
	}},
}

// upgrades are the protocols that an HTTP/1 connection may be upgraded to: Envoy refuses those it is
// not told of.
var upgrades = []string{"websocket", connectMethod, "tcp", "spdy/3.1"}

const connectMethod = "CONNECT"

// previousHosts makes a retry choose another endpoint.
var previousHosts = &routev3.RetryPolicy_RetryHostPredicate{
	Name:       "envoy.retry_host_predicates.previous_hosts",
	ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{})},
}

// httpConnectionManager is the one HTTP filter chain of the outbound side.
func httpConnectionManager(cfg *config.Mesh) *listenerv3.Filter {
	m := transparent("outbound_http")
	m.RouteSpecifier = scopedRoutes()
	m.EarlyHeaderMutationExtensions = earlyMutation(setDestinationHeader())
	m.HttpFilters = []*hcmv3.HttpFilter{
		// Waits for a scope's routes where they are not here yet.
		httpFilter("envoy.filters.http.on_demand", &ondemandv3.OnDemand{}),
		sessionFilter(),
		routerFilter(),
	}
	// Every route sets it to 0, so it bounds the wait for routes, which has no timeout of its own.
	m.StreamIdleTimeout = durationpb.New(cfg.OnDemand.Timeout.Duration)
	m.LocalReplyConfig = localReplies()
	return connectionManager(m)
}

func connectionManager(m *hcmv3.HttpConnectionManager) *listenerv3.Filter {
	return networkFilter("envoy.filters.network.http_connection_manager", m)
}

// transparent has no limits and timeouts that a direct connection would not have had, and adds nothing to requests
// but x-forwarded-proto, which Envoy always sets; docs/architecture.md lists what Envoy cannot pass on.
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
			AllowAbsoluteUrl:      wrapperspb.Bool(false), // a request target is passed on as it came
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			AllowConnect:                            true,
			MaxConcurrentStreams:                    wrapperspb.UInt32(maxStreams),
			OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true), // one bad stream, not the connection
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:     durationpb.New(0),
			MaxHeadersCount: wrapperspb.UInt32(maxHeaders),
		},
		MaxRequestHeadersKb: wrapperspb.UInt32(maxHeadersKB),
		StreamIdleTimeout:   durationpb.New(0),
		// Otherwise a stream idle timeout cuts off a client that reads slowly, whatever the route says.
		StreamFlushTimeout:         durationpb.New(0),
		GenerateRequestId:          wrapperspb.Bool(false),
		SkipXffAppend:              true,
		Proxy_100Continue:          true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
	}
}

func routerFilter() *hcmv3.HttpFilter {
	return httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true})
}

// earlyMutation changes headers of a request before anything else looks at them.
func earlyMutation(m *earlyv3.HeaderMutation) []*corev3.TypedExtensionConfig {
	return []*corev3.TypedExtensionConfig{{Name: "envoy.http.early_header_mutation.header_mutation", TypedConfig: toAny(m)}}
}

func upgradeConfigs(names []string) []*hcmv3.HttpConnectionManager_UpgradeConfig {
	out := make([]*hcmv3.HttpConnectionManager_UpgradeConfig, len(names))
	for i, name := range names {
		out[i] = &hcmv3.HttpConnectionManager_UpgradeConfig{UpgradeType: name}
	}
	return out
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
	return &earlyv3.HeaderMutation{Mutations: []*mutationv3.HeaderMutation{{
		Action: &mutationv3.HeaderMutation_Append{Append: &corev3.HeaderValueOption{
			Header:       &corev3.HeaderValue{Key: destinationHeader, Value: destinationAddress},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}}}
}

// localReplies give a person who reads an error body the reason; a gRPC client gets it as the message
// of status UNAVAILABLE. Response flags:
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage#command-operators
func localReplies() *hcmv3.LocalReplyConfig {
	unavailable := wrapperspb.UInt32(503)
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		localReply(nil, "mizzen: %UPSTREAM_CLUSTER% has no ready endpoint\n", flag("UH")),
		localReply(unavailable, "mizzen: no Service has the address "+destinationAddress+"\n", flag("NR")),
		// The header is there once the head of the request is complete.
		localReply(unavailable, "mizzen: the control plane did not send the routes for "+destinationAddress+" in time\n",
			flag("SI"), present(destinationHeader)),
		localReply(nil, "mizzen: the head of the request did not arrive in time\n", flag("SI")),
	}}
}

// localReply is the body, and the status if not nil, of replies that fulfil all conditions.
func localReply(status *wrapperspb.UInt32Value, body string, conditions ...*accesslogv3.AccessLogFilter) *hcmv3.ResponseMapper {
	return &hcmv3.ResponseMapper{
		Filter:     and(conditions...),
		StatusCode: status,
		BodyFormatOverride: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
		}},
	}
}

func and(conditions ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	if len(conditions) == 1 { // Envoy wants at least two in an and_filter
		return conditions[0]
	}
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_AndFilter{
		AndFilter: &accesslogv3.AndFilter{Filters: conditions},
	}}
}

func flag(name string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{name}},
	}}
}

func present(header string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: &routev3.HeaderMatcher{
			Name: header, HeaderMatchSpecifier: &routev3.HeaderMatcher_PresentMatch{PresentMatch: true},
		}},
	}}
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(m)}}
}
