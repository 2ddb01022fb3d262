package agent

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// Who asks the agent reads in his error what he would read if he asked the application.
func TestProbeAnswers(t *testing.T) {
	stays := make(chan struct{})
	t.Cleanup(func() { close(stays) })
	for name, tt := range map[string]struct {
		app  func(net.Conn) // nil is nobody
		want string         // with ADDRESS for the application's; or an error
		grpc bool
	}{
		"an answer":                {func(c net.Conn) { answer(c, "HTTP/1.0 200 OK\r\n\r\n") }, "200 OK", false},
		"a failure":                {func(c net.Conn) { answer(c, "HTTP/1.0 418 Tea\r\n\r\n") }, "418 I'm a teapot", false},
		"nobody":                   {nil, `Get "http://ADDRESS/a?b=c": dial tcp ADDRESS: connect: connection refused`, false},
		"nobody for gRPC":          {nil, `Get "http://ADDRESS/": dial tcp ADDRESS: connect: connection refused`, true},
		"no answer":                {func(net.Conn) { <-stays }, "context deadline exceeded", false},
		"an end":                   {func(c net.Conn) { answer(c, "") }, ": EOF", false},
		"half an answer":           {func(c net.Conn) { answer(c, "HTTP/1.0 200 OK\r\nContent-Length: 9\r\n\r\nhalf") }, ": EOF", false},
		"a reset":                  {func(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }, "connection reset by peer", false},
		"what is no HTTP":          {func(c net.Conn) { answer(c, "220 mail\r\n\r\n") }, "503 Service Unavailable", false},
		"what is no gRPC for gRPC": {func(c net.Conn) { answer(c, "220 mail\r\n\r\n") }, "503 Service Unavailable", true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			addr := application(t, tt.app)
			port := int32(netip.MustParseAddrPort(addr).Port())
			h := appprobe.Handler{HTTPGet: &appprobe.HTTPGet{Path: "/a?b=c", Port: port}, TimeoutSeconds: 1}
			if tt.grpc {
				h = appprobe.Handler{GRPC: &appprobe.GRPC{Port: port}, TimeoutSeconds: 1}
			}
			path := appprobe.Path("app", appprobe.Liveness)
			base := serveAgent(t, appprobe.Handlers{path: h})
			ctx, cancel := context.WithTimeout(t.Context(), 1500*time.Millisecond)
			defer cancel()
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set(appprobe.KeyHeader, "the-key")
			var got string
			if res, err := (&http.Client{Transport: &http.Transport{}}).Do(req); err != nil {
				got = err.Error()
			} else {
				res.Body.Close()
				got = res.Status
			}
			if want := strings.ReplaceAll(tt.want, "ADDRESS", addr); !strings.Contains(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
}

// answer reads what comes and says this.
func answer(c net.Conn, text string) {
	_, _ = c.Read(make([]byte, 4096))
	_, _ = io.WriteString(c, text)
}

// application serves each connection with serve and closes it.
func application(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if serve == nil {
		l.Close()
		return l.Addr().String()
	}
	t.Cleanup(func() { l.Close() })
	go listentest.Serve(l, serve)
	return l.Addr().String()
}
