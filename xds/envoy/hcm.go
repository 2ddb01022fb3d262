package envoy

import (
	"math"
	"time"

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
var upgrades = []string{"websocket", "CONNECT", "tcp", "spdy/3.1"}

// onDemandTimeout bounds the wait for a cluster that the control plane does not send.
const onDemandTimeout = 5 * time.Second

// previousHosts makes a retry choose another endpoint.
var previousHosts = &routev3.RetryPolicy_RetryHostPredicate{
	Name:       "envoy.retry_host_predicates.previous_hosts",
	ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: toAny(&previoushostsv3.PreviousHostsPredicate{})},
}

// httpConnectionManager is the one HTTP filter chain of the outbound side. It adds nothing to requests
// but x-forwarded-proto, which Envoy always sets; docs/architecture.md lists what Envoy cannot pass on.
func httpConnectionManager() *listenerv3.Filter {
	return networkFilter("envoy.filters.network.http_connection_manager", &hcmv3.HttpConnectionManager{
		StatPrefix:     "outbound_http",
		CodecType:      hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: scopedRoutes(),
		EarlyHeaderMutationExtensions: []*corev3.TypedExtensionConfig{{
			Name:        "envoy.http.early_header_mutation.header_mutation",
			TypedConfig: toAny(setDestinationHeader()),
		}},
		HttpFilters: []*hcmv3.HttpFilter{
			// Waits for a scope's routes where they are not here yet.
			httpFilter("envoy.filters.http.on_demand", &ondemandv3.OnDemand{}),
			httpFilter("envoy.filters.http.router", &routerv3.Router{SuppressEnvoyHeaders: true}),
		},
		UpgradeConfigs: upgradeConfigs(),
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
		MaxRequestHeadersKb:        wrapperspb.UInt32(maxHeadersKB),
		StreamIdleTimeout:          durationpb.New(0),
		GenerateRequestId:          wrapperspb.Bool(false),
		SkipXffAppend:              true,
		Proxy_100Continue:          true,
		ServerHeaderTransformation: hcmv3.HttpConnectionManager_PASS_THROUGH,
		LocalReplyConfig:           localReplies(),
	})
}

func upgradeConfigs() []*hcmv3.HttpConnectionManager_UpgradeConfig {
	out := make([]*hcmv3.HttpConnectionManager_UpgradeConfig, len(upgrades))
	for i, name := range upgrades {
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

// localReplies give a person who reads an error body the reason. Response flags:
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage#command-operators
func localReplies() *hcmv3.LocalReplyConfig {
	reply := func(flag string, status *wrapperspb.UInt32Value, body string) *hcmv3.ResponseMapper {
		return &hcmv3.ResponseMapper{
			Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
				ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: []string{flag}},
			}},
			StatusCode: status,
			BodyFormatOverride: &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
				TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: body}},
			}},
		}
	}
	return &hcmv3.LocalReplyConfig{Mappers: []*hcmv3.ResponseMapper{
		reply("UH", nil, "mizzen: %UPSTREAM_CLUSTER% has no ready endpoint\n"),
		reply("NR", wrapperspb.UInt32(503), "mizzen: no Service has the address "+destinationAddress+"\n"),
	}}
}

func httpFilter(name string, m proto.Message) *hcmv3.HttpFilter {
	return &hcmv3.HttpFilter{Name: name, ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: toAny(m)}}
}
