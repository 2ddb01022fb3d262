package envoy

import (
	"time"

	mutationv3 "github.com/envoyproxy/go-control-plane/envoy/config/common/mutation_rules/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	earlyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/early_header_mutation/header_mutation/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What a stranger may take of a gateway's memory and time.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge
const (
	bufferLimit      = 32 << 10
	edgeStreams      = 100 // at a time on a connection
	streamWindow     = 64 << 10
	connectionWindow = 1 << 20
	// edgeRepeatable is the largest body that Envoy keeps for a retry, in each request.
	edgeRepeatable = 64 << 10
	// headersTime is how long a client may take for the head of a request.
	headersTime = time.Minute
	// idleTime ends connections and requests that are silent.
	idleTime = time.Hour
	// routeTime ends a request that waits for its routes.
	routeTime = 5 * time.Minute
)

// edgeUpgrades are the protocols to which a client may switch. Others are ignored, as by a server that does not know them.
var edgeUpgrades = []string{"websocket"}

var otherEdgeUpgrades = []*matcherv3.StringMatcher{{MatchPattern: &matcherv3.StringMatcher_SafeRegex{
	SafeRegex: &matcherv3.RegexMatcher{Regex: "(?s)" + noneOf(edgeUpgrades)},
}}}

// edgeConnectionManager serves strangers. Unlike that of a sidecar it believes none of their headers, says who they are
// (x-forwarded-for, x-forwarded-proto, x-request-id), and has limits.
//
// "." and ".." are resolved in paths, because routes and policies go by the path that the server sees. "//" and escaped slashes
// stay: to a server they may be part of a name, and a policy that judges a path gets the same one as the server.
func edgeConnectionManager(routes string, filters edgeFilters, clients mesh.Clients) *hcmv3.HttpConnectionManager {
	return &hcmv3.HttpConnectionManager{
		StatPrefix: "gateway_http",
		CodecType:  hcmv3.HttpConnectionManager_AUTO,
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			ConfigSource: ads(), RouteConfigName: routes,
		}},
		UseRemoteAddress:  wrapperspb.Bool(true),
		XffNumTrustedHops: clients.TrustedHops,
		// Removes x-forwarded-client-cert.
		ForwardClientCertDetails:     hcmv3.HttpConnectionManager_SANITIZE,
		NormalizePath:                wrapperspb.Bool(true),
		PathWithEscapedSlashesAction: hcmv3.HttpConnectionManager_KEEP_UNCHANGED,
		UpgradeConfigs:               upgradeConfigs(edgeUpgrades),
		HttpProtocolOptions: &corev3.Http1ProtocolOptions{
			AcceptHttp_10:        true, // without a Host it is answered with 400
			EnableTrailers:       true,
			IgnoreHttp_11Upgrade: otherEdgeUpgrades,
			AllowAbsoluteUrl:     wrapperspb.Bool(true),
		},
		Http2ProtocolOptions: &corev3.Http2ProtocolOptions{
			AllowConnect:                            true, // of WebSocket: RFC 8441
			MaxConcurrentStreams:                    wrapperspb.UInt32(edgeStreams),
			InitialStreamWindowSize:                 wrapperspb.UInt32(streamWindow),
			InitialConnectionWindowSize:             wrapperspb.UInt32(connectionWindow),
			OverrideStreamErrorOnInvalidHttpMessage: wrapperspb.Bool(true),
		},
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{
			IdleTimeout:                  durationpb.New(idleTime),
			HeadersWithUnderscoresAction: corev3.HttpProtocolOptions_ALLOW,
		},
		RequestHeadersTimeout:         durationpb.New(headersTime),
		StreamIdleTimeout:             durationpb.New(routeTime), // routes have their own (streamIdleTime)
		Proxy_100Continue:             true,
		ServerHeaderTransformation:    hcmv3.HttpConnectionManager_PASS_THROUGH,
		EarlyHeaderMutationExtensions: earlyMutation(withoutInternalHeaders()),
		HttpFilters:                   append(filters.httpFilters(), routerFilter()),
	}
}

// forwardCertificate says in x-forwarded-client-cert which certificate the client has shown, with the details that Istio's gateways give.
func forwardCertificate(m *hcmv3.HttpConnectionManager) {
	m.ForwardClientCertDetails = hcmv3.HttpConnectionManager_SANITIZE_SET
	m.SetCurrentClientCertDetails = &hcmv3.HttpConnectionManager_SetCurrentClientCertDetails{
		Subject: wrapperspb.Bool(true), Uri: true, Dns: true, Cert: true,
	}
}

// withoutInternalHeaders removes the headers by which sidecars choose routes.
func withoutInternalHeaders() *earlyv3.HeaderMutation {
	out := &earlyv3.HeaderMutation{}
	for _, name := range []string{destinationHeader, demandHeader} {
		out.Mutations = append(out.Mutations, &mutationv3.HeaderMutation{Action: &mutationv3.HeaderMutation_Remove{Remove: name}})
	}
	return out
}
