package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	statslogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/stats/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// GRPCErrors counts gRPC calls that end with an error, by status and cluster. In HTTP almost all of them have status 200.
// Only gRPC's own statuses count, so that a server cannot create series, and the number of all series is bounded.
//
// It is an access log. For a call without an error it costs one look at a header. The filter grpc_stats was tried before,
// and took 11 µs for a gRPC call and 4 µs for any other.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/access_loggers/stats/v3/stats.proto
func GRPCErrors() *accesslogv3.AccessLog {
	errors := &accesslogv3.GrpcStatusFilter{}
	for status := accesslogv3.GrpcStatusFilter_CANCELED; status <= accesslogv3.GrpcStatusFilter_UNAUTHENTICATED; status++ {
		errors.Statuses = append(errors.Statuses, status)
	}
	isGRPC := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_HeaderFilter{
		HeaderFilter: &accesslogv3.HeaderFilter{Header: &routev3.HeaderMatcher{
			Name: "content-type", HeaderMatchSpecifier: &routev3.HeaderMatcher_StringMatch{StringMatch: prefixed("application/grpc")},
		}},
	}}
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.stats",
		Filter: and(isGRPC, &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_GrpcStatusFilter{
			GrpcStatusFilter: errors,
		}}),
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&statslogv3.Config{
			StatsScope: &typev3.Scope{Prefix: "outbound_grpc", MaxCounters: wrapperspb.UInt32(1 << 12)},
			Counters: []*statslogv3.Config_Counter{{
				Stat: &statslogv3.Config_Stat{Name: "errors", Tags: []*statslogv3.Config_Tag{
					{Name: "grpc_status", ValueFormat: "%GRPC_STATUS_NUMBER%"}, {Name: "destination", ValueFormat: "%UPSTREAM_CLUSTER%"},
				}},
				ValueFixed: wrapperspb.UInt64(1),
			}},
		})},
	}
}
