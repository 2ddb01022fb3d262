package plaintext

import (
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// kinds of entries by their type.
var kinds = map[accessdatav3.AccessLogType]string{
	accessdatav3.AccessLogType_TcpUpstreamConnected: connection,
	accessdatav3.AccessLogType_TcpPeriodic:          goesOn,
	accessdatav3.AccessLogType_TcpConnectionEnd:     ending,
	accessdatav3.AccessLogType_DownstreamStart:      request,
	accessdatav3.AccessLogType_DownstreamPeriodic:   requestGoesOn,
	accessdatav3.AccessLogType_DownstreamEnd:        ending,
}

// Register adds the access log service to a server of Envoy's.
func (c *Callers) Register(s grpc.ServiceRegistrar) {
	accesslogv3.RegisterAccessLogServiceServer(s, service{callers: c})
}

type service struct {
	accesslogv3.UnimplementedAccessLogServiceServer
	callers *Callers
}

// StreamAccessLogs reads one of Envoy's streams: each of its workers has one. Only the first message says which
// log it is. Envoy wants no answer.
func (s service) StreamAccessLogs(stream accesslogv3.AccessLogService_StreamAccessLogsServer) error {
	log := ""
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		if id := m.GetIdentifier(); id != nil {
			log = id.GetLogName()
		}
		switch log {
		case sds.PlainTextLog:
			s.callers.read(m)
		case sds.MTLSLog:
			s.callers.meshed.read(m)
		case sds.DryRunLog:
			s.callers.meshed.readRequests(m)
		}
	}
}

// read enters the callers of a message.
func (c *Callers) read(m *accesslogv3.StreamAccessLogsMessage) {
	for _, e := range m.GetTcpLogs().GetLogEntry() {
		c.entry(e.GetCommonProperties())
	}
	for _, e := range m.GetHttpLogs().GetLogEntry() {
		c.entry(e.GetCommonProperties())
	}
}

// entry takes the peer of the connection, whatever a request says of where it comes from.
func (c *Callers) entry(e *accessdatav3.AccessLogCommon) {
	kind, news := kinds[e.GetAccessLogType()]
	from, ok := addrPort(e.GetDownstreamDirectRemoteAddress())
	to, also := addrPort(e.GetDownstreamLocalAddress())
	if news && ok && also {
		c.saw(from, to, "", kind)
	}
}
