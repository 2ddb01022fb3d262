package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/answers"
)

// answerLogs count the answers that the sidecar made itself, by Service and reason. They write a line for each if the pod's
// bootstrap says so. A call that a server has answered costs two comparisons.
func answerLogs(s Side) []*accesslogv3.AccessLog {
	endpoint := "%UPSTREAM_HOST%"
	if s == Inbound {
		endpoint = destinationAddress
	}
	cheap := or(status(comparisonGE, 300), flags(), and(grpcRequest, grpcFailure))
	made := celFilter("response.code_details != 'via_upstream' && '" + AnswerHeader + "' in response.headers")
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.stats", Filter: and(cheap, atTheEnd, made),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&statslogv3.Config{
			StatsScope: &typev3.Scope{Prefix: answers.StatPrefix},
			Counters: []*statslogv3.Config_Counter{{
				Stat: &statslogv3.Config_Stat{Name: answers.Stat, Tags: []*statslogv3.Config_Tag{
					{Name: answers.TagStatus, ValueFormat: "%RESP(" + AnswerHeader + ")%"},
					{Name: answers.TagCluster, ValueFormat: "%UPSTREAM_CLUSTER%"},
				}},
				ValueFixed: wrapperspb.UInt64(1),
			}},
		})},
	}, {
		Name: "envoy.access_loggers.stdout", Filter: and(cheap, atTheEnd, runtimeKey(answers.LogKey), made),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(stdout(map[string]*structpb.Value{
			"time":        text("%START_TIME(%Y-%m-%dT%H:%M:%S.%3fZ)%"),
			"message":     text("answered by the sidecar"),
			"side":        text(string(s)),
			"proxyStatus": text("%RESP(" + AnswerHeader + ")%"),
			"flags":       text("%RESPONSE_FLAGS%"),
			"details":     text("%RESPONSE_CODE_DETAILS%"),
			"failure":     text("%UPSTREAM_TRANSPORT_FAILURE_REASON%"),
			"cluster":     text("%UPSTREAM_CLUSTER%"),
			"endpoint":    text(endpoint),
			"address":     text(destinationAddress),
			"route":       text("%ROUTE_NAME%"),
			"method":      text("%REQ(:METHOD):64%"),
			"path":        text("%PATH(NQ):1024%"), // without the query, which may hold secrets
			"status":      text("%RESPONSE_CODE%"),
			"grpcStatus":  text("%GRPC_STATUS_NUMBER%"),
			"duration":    text("%DURATION%"),
		}))},
	}}
}

// gRPC has status 200 even for errors.
var (
	grpcRequest = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: &routev3.HeaderMatcher{
			Name: "content-type", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: &matcherv3.StringMatcher{
				MatchPattern: &matcherv3.StringMatcher_Prefix{Prefix: "application/grpc"},
			}},
		}},
	}}
	grpcFailure = &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_GrpcStatusFilter{
		GrpcStatusFilter: &accesslogv3.GrpcStatusFilter{Statuses: []accesslogv3.GrpcStatusFilter_Status{accesslogv3.GrpcStatusFilter_OK}, Exclude: true},
	}}
)

const (
	comparisonEQ = accesslogv3.ComparisonFilter_EQ
	comparisonGE = accesslogv3.ComparisonFilter_GE
)

func status(op accesslogv3.ComparisonFilter_Op, code uint32) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_StatusCodeFilter{
		StatusCodeFilter: &accesslogv3.StatusCodeFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: op, Value: &corev3.RuntimeUInt32{DefaultValue: code, RuntimeKey: "mizzen.none"},
		}},
	}}
}

// flags matches if one of the response flags is set; without names, if any flag is set.
func flags(names ...string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_ResponseFlagFilter{
		ResponseFlagFilter: &accesslogv3.ResponseFlagFilter{Flags: names},
	}}
}

// runtimeKey matches if the pod's bootstrap sets the key to 100.
func runtimeKey(key string) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_RuntimeFilter{
		RuntimeFilter: &accesslogv3.RuntimeFilter{RuntimeKey: key, PercentSampled: &typev3.FractionalPercent{}},
	}}
}

func or(conditions ...*accesslogv3.AccessLogFilter) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_OrFilter{
		OrFilter: &accesslogv3.OrFilter{Filters: conditions},
	}}
}
