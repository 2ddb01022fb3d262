package envoy

import (
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	grpclogv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/grpc/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// The log of callers in plain text goes to the agent, over the socket that its secrets come from. Envoy writes it
// beside the traffic and keeps at most plainLogBuffer bytes for each worker: while the agent is slow or away, what
// comes on top of these is dropped, and no connection waits.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/access_loggers/grpc/v3/als.proto
const (
	// plainLogFlush is how long an entry waits for others.
	plainLogFlush = time.Second
	// plainLogBuffer is Envoy's default, some fifty entries.
	plainLogBuffer = 16 << 10
	// plainLogAgain is how often a connection, or a request, that goes on is told again, so that the agent sees
	// that it is there still.
	plainLogAgain = time.Minute
)

// logPlain makes the proxy tell the agent of each connection, when it has reached the application and while it
// goes on. One that nobody took is not told.
func logPlain(p *tcpv3.TcpProxy) {
	p.AccessLogOptions = &tcpv3.TcpProxy_TcpAccessLogOptions{
		FlushAccessLogOnConnected: true,
		AccessLogFlushInterval:    durationpb.New(plainLogAgain),
	}
	p.AccessLog = append(p.AccessLog, plainLog(
		"envoy.access_loggers.tcp_grpc", &grpclogv3.TcpGrpcAccessLogConfig{CommonConfig: plainLogConfig()},
		accessdatav3.AccessLogType_TcpUpstreamConnected, accessdatav3.AccessLogType_TcpPeriodic,
	))
}

// logPlainHTTP is the same for a chain that ends HTTP. It is told of each request, when it begins and while it goes
// on: Envoy has no word for a connection here. Under load the bound of the buffer drops what the agent does not
// need to know, because the same callers call again.
func logPlainHTTP(m *hcmv3.HttpConnectionManager) {
	m.AccessLogOptions = &hcmv3.HttpConnectionManager_HcmAccessLogOptions{
		FlushAccessLogOnNewRequest: true,
		AccessLogFlushInterval:     durationpb.New(plainLogAgain),
	}
	m.AccessLog = append(m.AccessLog, plainLog(
		"envoy.access_loggers.http_grpc", &grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: plainLogConfig()},
		accessdatav3.AccessLogType_DownstreamStart, accessdatav3.AccessLogType_DownstreamPeriodic,
	))
}

func plainLogConfig() *grpclogv3.CommonGrpcAccessLogConfig {
	return &grpclogv3.CommonGrpcAccessLogConfig{
		LogName: sds.PlainTextLog,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sds.Cluster},
		}},
		TransportApiVersion: corev3.ApiVersion_V3,
		BufferFlushInterval: durationpb.New(plainLogFlush),
		BufferSizeBytes:     wrapperspb.UInt32(plainLogBuffer),
	}
}

// plainLog has a filter, because Envoy also tells the end of each connection and request.
func plainLog(name string, config proto.Message, types ...accessdatav3.AccessLogType) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name:       name,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(config)},
		Filter: &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{
			LogTypeFilter: &accesslogv3.LogTypeFilter{Types: types},
		}},
	}
}
