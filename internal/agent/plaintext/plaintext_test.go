package plaintext

import (
	"errors"
	"io"
	"net/netip"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// clocked gives callers with a clock that goes on by a second at each look, from start.
func clocked() *Callers {
	now := start.Add(-time.Second)
	return New(Options{Registerer: prometheus.NewRegistry(), Now: func() time.Time {
		now = now.Add(time.Second)
		return now
	}})
}

func at(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }

func address(text string) *corev3.Address {
	a := netip.MustParseAddrPort(text)
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
	}}}
}

func entry(kind accessdatav3.AccessLogType, from, to string) *accessdatav3.AccessLogCommon {
	return &accessdatav3.AccessLogCommon{
		AccessLogType: kind, DownstreamDirectRemoteAddress: address(from), DownstreamLocalAddress: address(to),
		DownstreamRemoteAddress: address("192.0.2.1:1"), // what a request may claim
	}
}

func tcp(entries ...*accessdatav3.AccessLogCommon) *accesslogv3.StreamAccessLogsMessage {
	logs := &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{}
	for _, e := range entries {
		logs.LogEntry = append(logs.LogEntry, &accessdatav3.TCPAccessLogEntry{CommonProperties: e})
	}
	return &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: logs}}
}

func http(entries ...*accessdatav3.AccessLogCommon) *accesslogv3.StreamAccessLogsMessage {
	logs := &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{}
	for _, e := range entries {
		logs.LogEntry = append(logs.LogEntry, &accessdatav3.HTTPAccessLogEntry{CommonProperties: e})
	}
	return &accesslogv3.StreamAccessLogsMessage{LogEntries: &accesslogv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: logs}}
}

func named(log string, m *accesslogv3.StreamAccessLogsMessage) *accesslogv3.StreamAccessLogsMessage {
	m.Identifier = &accesslogv3.StreamAccessLogsMessage_Identifier{LogName: log}
	return m
}

// stream is one of Envoy's that has said all it has to say.
type stream struct {
	grpc.ServerStream
	messages []*accesslogv3.StreamAccessLogsMessage
}

func (s *stream) Recv() (*accesslogv3.StreamAccessLogsMessage, error) {
	if len(s.messages) == 0 {
		return nil, io.EOF
	}
	m := s.messages[0]
	s.messages = s.messages[1:]
	return m, nil
}

func (*stream) SendAndClose(*accesslogv3.StreamAccessLogsResponse) error { return nil }

func TestCallers(t *testing.T) {
	c := clocked()
	read := func(messages ...*accesslogv3.StreamAccessLogsMessage) {
		t.Helper()
		if err := (service{callers: c}).StreamAccessLogs(&stream{messages: messages}); !errors.Is(err, io.EOF) {
			t.Fatal(err)
		}
	}
	const connected, goesOn, ended = accessdatav3.AccessLogType_TcpUpstreamConnected, accessdatav3.AccessLogType_TcpPeriodic, accessdatav3.AccessLogType_TcpConnectionEnd
	nowhere := entry(connected, "10.0.0.5:1", "10.0.0.9:80")
	nowhere.DownstreamDirectRemoteAddress = &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: "/x"}}}
	read(
		named(sds.PlainTextLog, tcp(entry(connected, "10.0.0.5:4001", "10.0.0.9:80"), entry(connected, "10.0.0.4:4001", "10.0.0.9:80"))),
		tcp(entry(connected, "10.0.0.5:4002", "10.0.0.9:80"), entry(ended, "10.0.0.5:4001", "10.0.0.9:80")),
		tcp(entry(connected, "[::ffff:10.0.0.5]:4003", "10.0.0.9:81"), nowhere, nil, &accessdatav3.AccessLogCommon{}),
		tcp(entry(goesOn, "10.0.0.5:4002", "10.0.0.9:80")),
	)
	read(named(sds.PlainTextLog, http(
		entry(accessdatav3.AccessLogType_DownstreamStart, "[fd00::1]:5", "[fd00::9]:82"),
		entry(accessdatav3.AccessLogType_DownstreamPeriodic, "[fd00::1]:5", "[fd00::9]:82"),
		entry(accessdatav3.AccessLogType_DownstreamEnd, "[fd00::1]:5", "[fd00::9]:82"),
	)))
	read(named("another", tcp(entry(connected, "10.0.0.66:1", "10.0.0.9:80"))))
	read(tcp(entry(connected, "10.0.0.67:1", "10.0.0.9:80")))
	caller := func(source string, port uint16, connections, requests, live uint64, first, last int) agentapi.Caller {
		return agentapi.Caller{
			Source: netip.MustParseAddr(source), Port: port, Connections: connections, Requests: requests, Live: live, First: at(first), Last: at(last),
		}
	}
	want := agentapi.PlainText{Since: at(0), MTLS: []agentapi.Caller{}, Callers: []agentapi.Caller{
		caller("10.0.0.4", 80, 1, 0, 1, 2, 2), caller("10.0.0.5", 80, 2, 0, 1, 1, 6), caller("10.0.0.5", 81, 1, 0, 1, 5, 5), caller("fd00::1", 82, 0, 1, 0, 7, 9),
	}}
	if diff := cmp.Diff(want, c.Snapshot(), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
	for labels, want := range map[[2]string]float64{{"80", connection}: 3, {"81", connection}: 1, {"82", request}: 1} {
		if got := testutil.ToFloat64(c.calls.WithLabelValues(labels[0], labels[1])); got != want {
			t.Errorf("%v: %v, want %v", labels, got, want)
		}
	}
}

// However many addresses and ports call, memory and metric stay bounded, and who called last is remembered.
func TestBounds(t *testing.T) {
	c := clocked()
	to := netip.MustParseAddrPort("10.0.0.9:80")
	source := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 1)
	}
	const extra = 10
	for i := range agentapi.MaxCallers {
		c.saw(source(i), to, "", connection)
	}
	c.saw(source(0), to, "", "") // has a connection still
	for i := range extra {
		c.saw(source(agentapi.MaxCallers+i), to, "", connection)
	}
	got := c.Snapshot()
	if len(got.Callers) != agentapi.MaxCallers || got.Forgotten != extra {
		t.Errorf("%d callers, %d forgotten", len(got.Callers), got.Forgotten)
	}
	if first, second := got.Callers[0].Source, got.Callers[1].Source; first != source(0).Addr() || second != source(extra+1).Addr() {
		t.Errorf("%s and %s come first", first, second)
	}
	for port := range 1000 {
		c.saw(source(0), netip.AddrPortFrom(to.Addr(), uint16(port+1000)), "", connection)
	}
	if n := testutil.CollectAndCount(c.calls); n != maxPorts+1 {
		t.Errorf("%d series, want %d and one for others", n, maxPorts)
	}
}

// What Envoy says is bytes of a stranger in parts: nothing of it may break the agent.
func FuzzRead(f *testing.F) {
	for _, m := range []proto.Message{
		named(sds.PlainTextLog, tcp(entry(accessdatav3.AccessLogType_TcpUpstreamConnected, "10.0.0.5:1", "10.0.0.9:80"))),
		http(entry(accessdatav3.AccessLogType_DownstreamStart, "[fd00::1]:5", "[fd00::9]:82")),
	} {
		b, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := &accesslogv3.StreamAccessLogsMessage{}
		if proto.Unmarshal(b, m) != nil {
			return
		}
		c := clocked()
		c.read(m)
		c.meshed.read(m)
		c.meshed.readRequests(m)
		for _, caller := range c.Snapshot().Callers {
			if !caller.Source.IsValid() || caller.Source.Is4In6() || caller.Source.Zone() != "" {
				t.Errorf("source %s", caller.Source)
			}
		}
	})
}
