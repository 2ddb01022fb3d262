package ends

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	accessdatav3 "github.com/envoyproxy/go-control-plane/envoy/data/accesslog/v3"
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/service/accesslog/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

const caller = "spiffe://cluster.local/ns/shop/sa/web"

// fakeEnvoy says what the test wants.
type fakeEnvoy struct {
	updates   uint64
	admission *sds.Admission
	unsettled bool
	asked     int
	err       error
}

func (f *fakeEnvoy) ListenerUpdates(context.Context) (uint64, error) { return f.updates, f.err }

func (f *fakeEnvoy) Admission(context.Context) (*sds.Admission, bool, error) {
	f.asked++
	return f.admission, !f.unsettled, f.err
}

// world is an agent whose Envoy has told of connections.
type world struct {
	*Ends
	t     *testing.T
	envoy *fakeEnvoy
	now   time.Time
	ended []string
	// clock is called whenever the time is asked for.
	clock func()
	fail  error
	log   accesslogv3.AccessLogServiceClient
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, envoy: &fakeEnvoy{}, now: time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)}
	w.clock = func() {}
	clock := func() time.Time {
		w.clock()
		return w.now
	}
	callers := plaintext.New(plaintext.Options{Registerer: prometheus.NewRegistry(), Now: clock})
	w.Ends = New(Options{
		Callers: callers, Envoy: w.envoy, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler), Now: clock,
		End: func(caller netip.AddrPort) error {
			if w.fail == nil {
				w.ended = append(w.ended, caller.String())
			}
			return w.fail
		},
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	callers.Register(server)
	go func() { _ = server.Serve(l) }()
	t.Cleanup(server.Stop)
	conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	w.log = accesslogv3.NewAccessLogServiceClient(conn)
	return w
}

// says what Envoy does of a connection to port 80.
func (w *world) says(log string, kind accessdatav3.AccessLogType, from, id string) {
	w.t.Helper()
	address := func(text string) *corev3.Address {
		a := netip.MustParseAddrPort(text)
		return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: a.Addr().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(a.Port())},
		}}}
	}
	e := &accessdatav3.AccessLogCommon{AccessLogType: kind, DownstreamDirectRemoteAddress: address(from), DownstreamLocalAddress: address("10.0.0.9:80")}
	if id != "" {
		e.TlsProperties = &accessdatav3.TLSProperties{PeerCertificateProperties: &accessdatav3.TLSProperties_CertificateProperties{
			SubjectAltName: []*accessdatav3.TLSProperties_CertificateProperties_SubjectAltName{{
				San: &accessdatav3.TLSProperties_CertificateProperties_SubjectAltName_Uri{Uri: id},
			}},
		}}
	}
	m := &accesslogv3.StreamAccessLogsMessage{Identifier: &accesslogv3.StreamAccessLogsMessage_Identifier{LogName: log}}
	switch kind {
	case accessdatav3.AccessLogType_DownstreamStart, accessdatav3.AccessLogType_DownstreamEnd, accessdatav3.AccessLogType_DownstreamPeriodic:
		m.LogEntries = &accesslogv3.StreamAccessLogsMessage_HttpLogs{HttpLogs: &accesslogv3.StreamAccessLogsMessage_HTTPAccessLogEntries{
			LogEntry: []*accessdatav3.HTTPAccessLogEntry{{CommonProperties: e}},
		}}
	default:
		m.LogEntries = &accesslogv3.StreamAccessLogsMessage_TcpLogs{TcpLogs: &accesslogv3.StreamAccessLogsMessage_TCPAccessLogEntries{
			LogEntry: []*accessdatav3.TCPAccessLogEntry{{CommonProperties: e}},
		}}
	}
	stream, err := w.log.StreamAccessLogs(w.t.Context())
	if err == nil {
		err = stream.Send(m)
	}
	if err == nil {
		// The service ends the stream with what it has got at the client's end of it: by then all is read.
		_, err = stream.CloseAndRecv()
	}
	if err != nil && !errors.Is(err, io.EOF) && status.Code(err) != codes.Unknown {
		w.t.Fatal(err)
	}
}

// after looks when so much time has gone by, and gives what has been ended then.
func (w *world) after(d time.Duration) []string {
	w.t.Helper()
	w.now, w.ended = w.now.Add(d), nil
	if err := w.look(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	slices.Sort(w.ended)
	return w.ended
}

func (w *world) want(d time.Duration, ended ...string) {
	w.t.Helper()
	if got := w.after(d); !slices.Equal(got, ended) {
		w.t.Errorf("ended %v, want %v", got, ended)
	}
}

// use has Envoy take another listener.
func (w *world) use(at sds.PortAdmission) {
	w.envoy.updates++
	w.envoy.admission = &sds.Admission{DrainTime: "10s", Ports: map[uint16]sds.PortAdmission{0: at}}
}

var (
	open   = sds.PortAdmission{Plain: true}
	strict = sds.PortAdmission{}
)

const (
	begins       = accessdatav3.AccessLogType_TcpUpstreamConnected
	ends         = accessdatav3.AccessLogType_TcpConnectionEnd
	requestBegin = accessdatav3.AccessLogType_DownstreamStart
	requestEnd   = accessdatav3.AccessLogType_DownstreamEnd
)

// While nothing lives Run rests, and it looks again when something does.
func TestRunRestsUntilSomethingLives(t *testing.T) {
	w := newWorld(t)
	ended := make(chan netip.AddrPort, 1)
	w.o.End = func(caller netip.AddrPort) error {
		ended <- caller
		return nil
	}
	looked := make(chan struct{})
	w.clock = sync.OnceFunc(func() { close(looked) })
	w.use(strict)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		w.Run(ctx)
	}()
	<-looked
	w.says(sds.PlainTextLog, begins, "10.0.0.5:1", "")
	select {
	case got := <-ended:
		if got.String() != "10.0.0.5:1" {
			t.Errorf("ended %s", got)
		}
	case <-time.After(20 * time.Second):
		t.Error("a connection that is not to live lives on")
	}
	cancel()
	<-done
}

func TestBytesEnd(t *testing.T) {
	w := newWorld(t)
	w.want(0)
	if w.envoy.asked > 0 {
		t.Error("Envoy is asked while nothing lives")
	}
	w.use(open)
	w.says(sds.PlainTextLog, begins, "10.0.0.5:1", "")
	w.says(sds.MTLSLog, begins, "10.0.0.6:1", caller)
	w.want(time.Second)
	w.want(time.Second)
	if w.envoy.asked != 1 {
		t.Errorf("Envoy is asked %d times for what it has in use, want once for each update", w.envoy.asked)
	}
	w.use(strict)
	w.want(time.Second, "10.0.0.5:1")
	w.want(time.Second)             // once
	w.want(nameAgain, "10.0.0.5:1") // and again while it lives
	w.use(sds.PortAdmission{Allow: []string{"spiffe://cluster.local/ns/bank/sa/"}})
	w.want(time.Second, "10.0.0.6:1")
	w.says(sds.PlainTextLog, ends, "10.0.0.5:1", "")
	w.says(sds.MTLSLog, ends, "10.0.0.6:1", caller)
	w.want(nameAgain)
	for reason, want := range map[string]float64{plainText: 1, byPolicy: 1} {
		if got := testutil.ToFloat64(w.Ends.ended.WithLabelValues(reason)); got != want {
			t.Errorf("%s: %v are counted, want %v", reason, got, want)
		}
	}
}

// A call that is under way, and one that has just been answered, has the drain time; a quiet connection has not.
func TestHTTPDrains(t *testing.T) {
	w := newWorld(t)
	w.use(open)
	const busy, quiet, recent = "10.0.0.5:1", "10.0.0.5:2", "10.0.0.5:3"
	for _, from := range []string{busy, quiet, recent} {
		w.says(sds.PlainTextLog, requestBegin, from, "")
	}
	w.says(sds.PlainTextLog, requestEnd, quiet, "")
	w.want(10 * time.Second)
	w.says(sds.PlainTextLog, requestEnd, recent, "")
	w.use(strict)
	w.want(time.Second, quiet)
	w.want(time.Second, recent)
	w.want(8 * time.Second)
	w.want(time.Second, busy)
	w.want(nameAgain) // nobody will tell that they have ended
}

// What is not known ends nothing, and is asked for again.
func TestUnknown(t *testing.T) {
	w := newWorld(t)
	w.says(sds.PlainTextLog, begins, "10.0.0.5:1", "")
	w.want(time.Second) // an older control plane says nothing
	w.use(strict)
	w.envoy.err = errors.New("away")
	if w.now = w.now.Add(time.Second); w.look(t.Context()) == nil || len(w.ended) > 0 {
		t.Errorf("ended %v while Envoy says nothing", w.ended)
	}
	w.envoy.err, w.envoy.unsettled = nil, true
	w.envoy.admission = &sds.Admission{Ports: map[uint16]sds.PortAdmission{0: open}} // another listener warms
	w.want(time.Second)
	w.envoy.admission, w.envoy.unsettled = &sds.Admission{}, false
	w.fail = capture.ErrNotTaken
	w.want(time.Second)
	w.fail = nil
	w.want(time.Second, "10.0.0.5:1")
}

// Another Envoy counts its updates from the beginning, and has none of the connections of the one before.
func TestAnotherEnvoy(t *testing.T) {
	w := newWorld(t)
	w.use(strict)
	w.says(sds.PlainTextLog, begins, "10.0.0.5:1", "")
	w.want(0, "10.0.0.5:1")
	w.o.Callers.EnvoyStarts()
	w.EnvoyStarts()
	w.use(open)
	w.envoy.updates = 1 // as the one before had
	w.says(sds.PlainTextLog, begins, "10.0.0.5:2", "")
	w.says(sds.MTLSLog, begins, "10.0.0.6:1", caller)
	w.want(nameAgain)
	if live := w.o.Callers.Live(); len(live) != 2 {
		t.Errorf("%+v live, want the two of the new Envoy", live)
	}
}
