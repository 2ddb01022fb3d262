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

// The log of callers in plain text goes to the agent, over the socket for Envoy's secrets. Envoy writes it asynchronously,
// and keeps at most plainLogBuffer bytes for each worker. While the agent is slow or away, further entries are dropped, and
// no connection waits.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/access_loggers/grpc/v3/als.proto
const (
	// plainLogFlush is how long an entry waits for others.
	plainLogFlush = time.Second
	// plainLogBuffer is Envoy's default, some fifty entries.
	plainLogBuffer = 16 << 10
	// plainLogAgain is how often a connection or request that goes on is logged again, so that the agent knows that it still
	// exists.
	plainLogAgain = time.Minute
)

// logPlain makes the proxy report each connection to the agent: when it has reached the application, while it goes on, and
// when it ends. For a connection that the application did not accept it reports only the end.
func logPlain(p *tcpv3.TcpProxy) {
	p.AccessLogOptions = &tcpv3.TcpProxy_TcpAccessLogOptions{
		FlushAccessLogOnConnected: true,
		AccessLogFlushInterval:    durationpb.New(plainLogAgain),
	}
	p.AccessLog = append(p.AccessLog, plainLog(
		"envoy.access_loggers.tcp_grpc", &grpclogv3.TcpGrpcAccessLogConfig{CommonConfig: agentLog(sds.PlainTextLog)},
		accessdatav3.AccessLogType_TcpUpstreamConnected, accessdatav3.AccessLogType_TcpPeriodic, accessdatav3.AccessLogType_TcpConnectionEnd,
	))
}

// logMTLS reports connections with mTLS to the agent, so that connected callers are known by name, even for a policy in dry
// run that comes later. Sidecars keep their connections, so these are few. Requests are not reported.
//
// Envoy connects to the application only after the handshake. Before, it does not know the caller's name, and a caller
// that fails the handshake must not reach the application.
func logMTLS(p *tcpv3.TcpProxy) {
	p.UpstreamConnectMode = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_TLS_HANDSHAKE
	p.MaxEarlyDataBytes = wrapperspb.UInt32(0)
	p.AccessLogOptions = &tcpv3.TcpProxy_TcpAccessLogOptions{
		FlushAccessLogOnConnected: true,
		AccessLogFlushInterval:    durationpb.New(plainLogAgain),
	}
	p.AccessLog = append(p.AccessLog, plainLog(
		"envoy.access_loggers.tcp_grpc", &grpclogv3.TcpGrpcAccessLogConfig{CommonConfig: agentLog(sds.MTLSLog)},
		accessdatav3.AccessLogType_TcpUpstreamConnected, accessdatav3.AccessLogType_TcpPeriodic, accessdatav3.AccessLogType_TcpConnectionEnd,
	))
}

// logPlainHTTP is logPlain for a chain of HTTP. It reports each request, when it begins, while it goes on and when it ends,
// because Envoy cannot log connections here. Under load the buffer's bound drops entries. That does no harm, because the
// same callers call again.
func logPlainHTTP(m *hcmv3.HttpConnectionManager) {
	m.AccessLogOptions = &hcmv3.HttpConnectionManager_HcmAccessLogOptions{
		FlushAccessLogOnNewRequest: true,
		AccessLogFlushInterval:     durationpb.New(plainLogAgain),
	}
	m.AccessLog = append(m.AccessLog, plainLog(
		"envoy.access_loggers.http_grpc", &grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: agentLog(sds.PlainTextLog)},
		accessdatav3.AccessLogType_DownstreamStart, accessdatav3.AccessLogType_DownstreamPeriodic, accessdatav3.AccessLogType_DownstreamEnd,
	))
}

// logLongMTLS is logMTLS for a chain of HTTP. It reports only requests that take longer than plainLogAgain: a policy in dry
// run that comes later would otherwise not see a stream that never ends. It sees short requests when they come again.
func logLongMTLS(m *hcmv3.HttpConnectionManager) {
	m.AccessLogOptions = &hcmv3.HttpConnectionManager_HcmAccessLogOptions{AccessLogFlushInterval: durationpb.New(plainLogAgain)}
	log := plainLog("envoy.access_loggers.http_grpc", &grpclogv3.HttpGrpcAccessLogConfig{CommonConfig: agentLog(sds.MTLSLog)},
		accessdatav3.AccessLogType_DownstreamEnd)
	long := &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_DurationFilter{
		DurationFilter: &accesslogv3.DurationFilter{Comparison: &accesslogv3.ComparisonFilter{
			Op: comparisonGE, Value: &corev3.RuntimeUInt32{DefaultValue: uint32(plainLogAgain.Milliseconds()), RuntimeKey: "mizzen.none"},
		}},
	}}
	log.Filter = or(logType(accessdatav3.AccessLogType_DownstreamPeriodic), and(log.Filter, long))
	m.AccessLog = append(m.AccessLog, log)
}

func agentLog(name string) *grpclogv3.CommonGrpcAccessLogConfig {
	return &grpclogv3.CommonGrpcAccessLogConfig{
		LogName: name,
		GrpcService: &corev3.GrpcService{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{
			EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: sds.Cluster},
		}},
		TransportApiVersion: corev3.ApiVersion_V3,
		BufferFlushInterval: durationpb.New(plainLogFlush),
		BufferSizeBytes:     wrapperspb.UInt32(plainLogBuffer),
	}
}

// plainLog filters by type, because Envoy has types that the agent does not need.
func plainLog(name string, config proto.Message, types ...accessdatav3.AccessLogType) *accesslogv3.AccessLog {
	return &accesslogv3.AccessLog{
		Name:       name,
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: toAny(config)},
		Filter:     logType(types...),
	}
}

func logType(types ...accessdatav3.AccessLogType) *accesslogv3.AccessLogFilter {
	return &accesslogv3.AccessLogFilter{FilterSpecifier: &accesslogv3.AccessLogFilter_LogTypeFilter{LogTypeFilter: &accesslogv3.LogTypeFilter{Types: types}}}
}
