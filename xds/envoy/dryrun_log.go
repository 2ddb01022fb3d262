package envoy

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// tellAgent reports to the agent the requests that policies in dry run would refuse. Connections are reported anyway
// (logMTLS, logPlain).
func tellAgent(filter *accesslogv3.AccessLogFilter) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name: "envoy.access_loggers.http_grpc", Filter: filter,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(&grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: agentLog(sds.DryRunLog)})},
	}
}

// tellLongRequests logs a request again each minute while it goes on, if there are policies in dry run.
func tellLongRequests(m *hcmv3.HttpConnectionManager, policies []stage) {
	for _, s := range policies {
		if s.shadow {
			m.AccessLogOptions = &hcmv3.HttpConnectionManager_HcmAccessLogOptions{AccessLogFlushInterval: durationpb.New(plainLogAgain)}
		}
	}
}
