package agent

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// A kubelet that is sent on to an application that starts just then is no caller in plain text.
func TestRedirectedProbeIsNoCaller(t *testing.T) {
	target := application(t, nil)
	port := netip.MustParseAddrPort(target).Port()
	path := appprobe.Path("app", appprobe.Readiness)
	s := testSettings("127.0.0.1:1", "127.0.0.1")
	s.Probes, s.ProbeKey = appprobe.Handlers{path: {HTTPGet: &appprobe.HTTPGet{Path: "/", Port: int32(port)}}}, "the-key"
	a := newAgent(s, slog.New(slog.DiscardHandler))
	a.prober, a.plain = probe.New(s.Node.IPs[0], false), plaintext.New(plaintext.Options{Registerer: a.metrics.registry})
	server := httptest.NewServer(http.HandlerFunc(a.serveProbe))
	t.Cleanup(server.Close)
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set(appprobe.KeyHeader, s.ProbeKey)
	if _, err := server.Client().Do(req); err == nil {
		t.Fatal("somebody listens")
	}
	report := envoyReports(t, a.plain)
	for calls := range 2 { // the second is somebody else's
		report("127.0.0.1:4001", target)
		if got := a.plain.Snapshot().Callers; len(got) != calls {
			t.Errorf("after call %d: %+v, want %d callers", calls+1, got, calls)
		}
	}
}

// envoyReports returns a function that reports a connection in plain text, and returns when it is entered.
func envoyReports(t *testing.T, callers *plaintext.Callers) func(from, to string) {
	t.Helper()
	s := grpc.NewServer()
	callers.Register(s)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	address := func(text string) *corev3.Address {
		a := netip.MustParseAddrPort(text)
		return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
		}}}
	}
	return func(from, to string) {
		t.Helper()
		stream, err := accesslogv3.NewAccessLogServiceClient(conn).StreamAccessLogs(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_ = stream.Send(&accesslogv3.StreamAccessLogsMessage{
			Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{LogName: sds.PlainTextLog},
			LogEntries: &accesslogv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{
				LogEntry: []*accessdatav3.TCPAccessLogEntry{{CommonProperties: &accessdatav3.AccessLogCommon{
					AccessLogType: accessdatav3.AccessLogType_TcpUpstreamConnected, DownstreamDirectRemoteAddress: address(from), DownstreamLocalAddress: address(to),
				}}},
			}},
		})
		_, _ = stream.CloseAndRecv() // the service ends the stream with the end of what it read
	}
}
