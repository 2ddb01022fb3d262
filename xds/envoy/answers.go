package envoy

import (
	"fmt"
	"strings"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// Side is the side whose sidecar answers.
type Side string

// The sides.
const (
	Outbound Side = "outbound" // the caller's
	Inbound  Side = "inbound"  // the server's
)

// Reason is a reason for which a sidecar answers a request itself. A test holds docs/answers.md against Reasons.
type Reason struct {
	// Name is stable: it is in the answer's header, in metrics and in logs.
	Name string
	// Sides that answer with this reason; nil for all.
	Sides []Side
	// Error is RFC 9209's name for it, if there is one.
	Error string
	// Text is the body, or the message of gRPC. It may contain Envoy's variables.
	Text string
	// Doc says what has happened and what helps, for docs/answers.md.
	Doc string

	status uint32 // 0 leaves Envoy's
	when   []*accesslogv3.AccessLogFilter
}

// Names of reasons that other files use.
const (
	reasonNoEndpoint = "no-endpoint"
	reasonNoService  = "no-service"
	reasonDenied     = "denied"
)

// toEndpoint is the end of the text about a failed connection: its endpoint, and what Envoy knows about the failure.
const toEndpoint = " %UPSTREAM_HOST% of %UPSTREAM_CLUSTER%: %UPSTREAM_TRANSPORT_FAILURE_REASON%"

// Reasons are tried in order. The last one matches everything. Flags and details are Envoy's:
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage#command-operators
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/response_code_details
// The names of errors are from https://www.rfc-editor.org/rfc/rfc9209#section-2.3
var Reasons = []Reason{
	{
		Name: reasonNoEndpoint, Error: "destination_unavailable", when: all(flags("UH")),
		Text: "%UPSTREAM_CLUSTER% has no ready endpoint", Doc: "The Service has no ready pod. Check its EndpointSlices.",
	},
	{
		Name: reasonNoService, Sides: []Side{Outbound}, Error: "destination_not_found",
		when: all(celFilter(`response.code_details == 'direct_response' && xds.route_name == '` + reasonNoService + `'`)),
		Doc:  "The address is in the range of Service addresses, but no Service has it (any more).",
	},
	{
		Name: "no-configuration", Sides: []Side{Outbound}, Error: "proxy_internal_error", status: 503, when: all(flags("NR")),
		Text: "the control plane did not send the routes for " + destinationAddress + " in time",
		Doc:  "This was the first call to the Service, and the control plane did not send its configuration within `onDemand.timeout`: it is unreachable or slow.",
	},
	{
		Name: "overflow", Error: "connection_limit_reached", when: all(flags("UO")),
		Text: "a limit of %UPSTREAM_CLUSTER% is reached: overflow", Doc: "A limit such as `mizzen.dev/max-requests` was reached (traffic.md). No server has seen the call.",
	},
	{
		Name: "overloaded", Error: "proxy_internal_error", status: 503, when: all(celFilter(`response.code_details == 'overload'`)),
		Text: "the proxy is near the memory limit of its container", Doc: "The proxy is near the memory limit of its container, and answers new calls itself rather than being killed. No server has seen the call.",
	},
	{
		Name: "timeout", Error: "http_response_timeout", when: all(or(flags("UT", "DT", "UMSDR"), celFilter(`response.code_details == 'max_duration_timeout'`))),
		Text: "the timeout of the route or of the Service %UPSTREAM_CLUSTER% is over", Doc: "`timeouts` of a rule or `mizzen.dev/timeout` ended the call. A server may have begun it.",
	},
	{
		Name: "tls-failed", Error: "tls_protocol_error", when: all(flags("UF"), celFilter(`response.code_details.contains('TLS')`)),
		Text: "no mTLS with the endpoint" + toEndpoint, Doc: "The endpoint's identity is not one of the Service's pods, or its certificate is invalid. See `mizzenctl identity`.",
	},
	{
		Name: "connect-timeout", Error: "connection_timeout", when: all(flags("UF"), celFilter(`response.code_details.contains('connection_timeout')`)),
		Text: "no connection in time to the endpoint" + toEndpoint, Doc: "No connection within `traffic.connectTimeout`: the pod or its node is gone, or a network policy drops the packets. No server has seen the call.",
	},
	{
		Name: "connect-failed", Error: "connection_refused", when: all(flags("UF")),
		Text: "no connection to the endpoint" + toEndpoint, Doc: "Nothing listens on the pod's port, or the network refused the connection. No server has seen the call.",
	},
	{
		Name: "too-large-to-repeat", Error: "proxy_internal_error", status: 503,
		when: all(celFilter(`response.code_details == 'request_payload_exceeded_retry_buffer_limit'`)),
		Text: "no connection to the first endpoint of %UPSTREAM_CLUSTER%, and the body is too large to be sent to another",
		Doc:  "A body of more than 4 MiB cannot be sent again. No server has seen the whole call, so the client may repeat it.",
	},
	{
		Name: "connection-lost", Error: "connection_terminated", when: all(flags("UC")),
		Text: "the connection to %UPSTREAM_HOST% of %UPSTREAM_CLUSTER% ended before the answer came", Doc: "The server closed the connection or died. It may have executed the call.",
	},
	{
		Name: "stream-reset", Error: "connection_terminated", when: all(flags("UR", "LR")),
		Text: "the stream was reset before the answer came: %RESPONSE_CODE_DETAILS%", Doc: "The server reset the stream of this call only (HTTP/2). It may have executed the call.",
	},
	{
		Name: "bad-answer", Error: "http_protocol_error", when: all(flags("UPE")),
		Text: "the answer of %UPSTREAM_HOST% is not HTTP that can be passed on: %RESPONSE_CODE_DETAILS%", Doc: "See http.md. A port declared TCP passes everything.",
	},
	{
		Name: "no-backend", Sides: []Side{Outbound}, Error: "proxy_configuration_error", when: all(flags("NC")),
		Text: "a backend of the rule is not valid", Doc: "The route names a Service or port that does not exist or needs a ReferenceGrant. See `mizzenctl routes`.",
	},
	{
		Name: reasonDenied, Sides: []Side{Inbound}, Error: "http_request_denied", when: all(celFilter(`response.code_details.startsWith('rbac_access_denied')`)),
		Text: "an AuthorizationPolicy denies this call, or none allows it", Doc: "See authorization.md. The text names the policy that denies the call, or says that none allows it.",
	},
	{
		Name: "upgrade-refused", Error: "http_upgrade_failed", when: all(celFilter(`response.code_details == 'upgrade_failed'`)),
		Text: "this upgrade or tunnel is not passed on", Doc: "CONNECT to a port whose policies judge requests.",
	},
	{
		Name: "upgrade-not-taken", Error: "http_upgrade_failed", when: all(celFilter(`response.code_details == 'websocket_handshake_unsuccessful'`)),
		Doc: "The server answered a WebSocket request with 2xx or 3xx. The client gets the status without the body (http.md).",
	},
	{
		Name: "redirect", Sides: []Side{Outbound}, when: all(celFilter(`response.code_details == 'direct_response' && response.code < 400`)),
		Doc: "A rule of the route redirects the request (`RequestRedirect`).",
	},
	{
		Name: "no-rule", Sides: []Side{Outbound}, Error: "destination_not_found", when: all(celFilter(`response.code_details == 'direct_response' && response.code == 404`)),
		Doc: "The Service has routes, but none of their rules matches the request. See `mizzenctl routes`.",
	},
	{
		Name: "bad-rule", Sides: []Side{Outbound}, Error: "proxy_configuration_error", when: all(celFilter(`response.code_details == 'direct_response'`)),
		Doc: "The rule of the route has no valid backend, or a bad value. The text names the rule and the reason.",
	},
	{
		Name: "head-too-large", Error: "http_request_error", when: all(status(comparisonEQ, 431)),
		Text: "the head of the request is larger than 1 MB, or has more than 1000 headers", Doc: "HTTP/1 only. In HTTP/2 the sidecar resets the stream.",
	},
	{
		Name: "bad-request", Error: "http_request_error",
		when: all(celFilter(`response.code_details.startsWith('http1.') || response.code_details.startsWith('http2.') || response.code_details in ` +
			`['missing_host_header', 'absolute_path_rejected', 'path_normalization_failed', 'low_version', 'invalid_path', 'request_headers_failed_strict_check']`)),
		Text: "the request is not HTTP that can be passed on: %RESPONSE_CODE_DETAILS%", Doc: "See http.md. A port declared TCP passes everything.",
	},
	{
		Name: "other", Error: "proxy_internal_response", when: all(celFilter("true")),
		Text: "the request could not be passed on: %RESPONSE_CODE_DETAILS%", Doc: "The text has Envoy's own name for the reason.",
	},
}

func all(conditions ...*accesslogv3.AccessLogFilter) []*accesslogv3.AccessLogFilter {
	return conditions
}

// On reports whether a side answers with this reason.
func (r Reason) On(s Side) bool {
	for _, side := range r.Sides {
		if side == s {
			return true
		}
	}
	return r.Sides == nil
}

// AnswerHeader marks the answers that a sidecar made. https://www.rfc-editor.org/rfc/rfc9209
const AnswerHeader = "proxy-status"

// header returns the value of AnswerHeader.
func (r Reason) header(s Side) string {
	value := "mizzen-" + string(s)
	if r.Error != "" {
		value += "; error=" + r.Error
	}
	return fmt.Sprintf("%s; details=%q", value, r.Name)
}

// localReplies gives each answer of the sidecar its reason. own is tried first.
func localReplies(s Side, own ...*hcmv3.ResponseMapper) *hcmv3.LocalReplyConfig {
	mappers := own
	for _, r := range Reasons {
		if r.On(s) {
			text := r.Text
			if s == Inbound { // the cluster is the application, at the caller's address
				text = strings.NewReplacer("%UPSTREAM_CLUSTER%", "the application", "%UPSTREAM_HOST%", destinationAddress).Replace(text)
			}
			mappers = append(mappers, r.mapper(s, text, r.when...))
		}
	}
	return &hcmv3.LocalReplyConfig{Mappers: mappers}
}

// mapper gives this reason to replies that match all conditions. Without a text they keep theirs.
func (r Reason) mapper(s Side, text string, when ...*accesslogv3.AccessLogFilter) *hcmv3.ResponseMapper {
	m := &hcmv3.ResponseMapper{
		Filter: and(when...),
		HeadersToAdd: []*corev3.HeaderValueOption{{
			Header:       &corev3.HeaderValue{Key: AnswerHeader, Value: r.header(s)},
			AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD,
		}},
	}
	if r.status != 0 {
		m.StatusCode = wrapperspb.UInt32(r.status)
	}
	if text != "" {
		m.BodyFormatOverride = &corev3.SubstitutionFormatString{Format: &corev3.SubstitutionFormatString_TextFormatSource{
			TextFormatSource: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: "mizzen: " + text + "\n"}},
		}}
	}
	return m
}

func reason(name string) Reason {
	for _, r := range Reasons {
		if r.Name == name {
			return r
		}
	}
	panic("no such reason: " + name) // a bug in this package
}
