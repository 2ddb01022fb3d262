package envoy

import (
	"fmt"
	"maps"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	celv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/filters/cel/v3"
	streamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stream/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// refusalLogs write a line for each call that is refused, or would be if the policies in dry run were enforced. Fields
// without a value are left out, for example the caller of a call without an identity.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/observability/access_log/usage
func refusalLogs(namespace string, all []stage) []*accesslogv3.AccessLog {
	fields := map[string]*structpb.Value{
		"time":    text("%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
		"caller":  text("%DOWNSTREAM_PEER_URI_SAN%"),
		"address": text("%DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT%"), // other variables believe x-forwarded-for
		"port":    text("%DOWNSTREAM_LOCAL_PORT%"),
	}
	if namespace == httpRBAC {
		fields["method"] = text("%REQ(:METHOD):64%")
		fields["path"] = text("%PATH(NQ):1024%") // without the query, which may hold secrets
		fields["status"] = text("%RESPONSE_CODE%")
	}
	var out []*accesslogv3.AccessLog
	for _, s := range all {
		line := maps.Clone(fields)
		result, policy := s.metadata(namespace)
		line["message"] = text("call refused")
		line["dryRun"] = structpb.NewBoolValue(s.shadow)
		if s.shadow {
			line["message"] = text("call would be refused")
		}
		line["reason"] = text("no AuthorizationPolicy allows it")
		if s.deny {
			line["reason"] = text("an AuthorizationPolicy denies it")
			line["policy"] = text(fmt.Sprintf("%%DYNAMIC_METADATA(%s:%s)%%", namespace, policy))
		}
		when := atTheEnd
		if s.shadow {
			when = whileItLives
		}
		filter := and(when, decided(namespace, result, "denied"))
		if s.shadow && !s.deny { // a matching Deny wins, and is logged instead
			other, _ := stage{deny: true, shadow: true}.metadata(namespace)
			filter = and(when, decided(namespace, result, "denied"), decided(namespace, other, "allowed"))
		}
		out = append(out, &accesslogv3.AccessLog{
			Name: "envoy.access_loggers.stdout", Filter: filter,
			ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(stdout(line))},
		})
		if s.shadow && namespace == httpRBAC {
			out = append(out, tellAgent(filter))
		}
	}
	return out
}

// atTheEnd matches only the end of a request or a connection. Chains in plain text also log what goes on, to the agent.
var atTheEnd = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
	LogTypeFilter: &accesslogv3.LogTypeFilter{Types: []accessdatav3.AccessLogType{
		accessdatav3.AccessLogType_DownstreamEnd, accessdatav3.AccessLogType_TcpConnectionEnd,
	}},
}}

// whileItLives matches each minute of a connection or a request (plainLogAgain), and its end. So one that never ends is
// logged, too.
var whileItLives = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
	LogTypeFilter: &accesslogv3.LogTypeFilter{Types: []accessdatav3.AccessLogType{
		accessdatav3.AccessLogType_TcpPeriodic, accessdatav3.AccessLogType_TcpConnectionEnd,
		accessdatav3.AccessLogType_DownstreamPeriodic, accessdatav3.AccessLogType_DownstreamEnd,
	}},
}}

func text(s string) *structpb.Value { return structpb.NewStringValue(s) }

func stdout(fields map[string]*structpb.Value) *streamv3.StdoutAccessLog {
	return &streamv3.StdoutAccessLog{AccessLogFormat: &streamv3.StdoutAccessLog_LogFormat{LogFormat: &corev3.SubstitutionFormatString{
		Format:          &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: &structpb.Struct{Fields: fields}},
		OmitEmptyValues: true,
	}}}
}

// decided matches if the decision under a key is this one. A missing decision is "allowed".
func decided(namespace, key, decision string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_MetadataFilter{
		MetadataFilter: &accesslogv3.MetadataFilter{
			MatchIfKeyNotFound: wrapperspb.Bool(decision == "allowed"),
			Matcher: &matcherv3.MetadataMatcher{
				Filter: namespace,
				Path:   []*matcherv3.MetadataMatcher_PathSegment{{Segment: &matcherv3.MetadataMatcher_PathSegment_Key{Key: key}}},
				Value:  &matcherv3.ValueMatcher{MatchPattern: &matcherv3.ValueMatcher_StringMatch{StringMatch: exactly(decision)}},
			},
		},
	}}
}

// refusalReplies tell a caller which policy has refused the call. A gRPC client gets that as the message of
// PERMISSION_DENIED. When Envoy makes a reply, the filters have not left their decision in the metadata yet.
func refusalReplies(all []stage) []*hcmv3.ResponseMapper {
	denied := reason(reasonDenied)
	var mappers []*hcmv3.ResponseMapper
	for _, s := range all {
		body, condition := "no AuthorizationPolicy allows this call", `response.code_details == 'rbac_access_denied_matched_policy[none]'`
		if s.deny {
			body = "an AuthorizationPolicy denies this call: %RESPONSE_CODE_DETAILS%"
			condition = `response.code_details.startsWith('rbac_access_denied') && !response.code_details.endsWith('[none]')`
		}
		if !s.shadow {
			mappers = append(mappers, denied.mapper(Inbound, body, celFilter(condition)))
		}
	}
	return mappers
}

func celFilter(expression string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ExtensionFilter{
		ExtensionFilter: &accesslogv3.ExtensionFilter{
			Name:       "envoy.access_loggers.extension_filters.cel",
			ConfigType: &accesslogv3.ExtensionFilter_TypedConfig{TypedConfig: toAny(&celv3.ExpressionFilter{Expression: expression})},
		},
	}}
}
