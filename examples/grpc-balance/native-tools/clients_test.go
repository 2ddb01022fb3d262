package main

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/examples/grpc-balance/whoami"
)

type fixed struct {
	whoami.UnimplementedWhoAmIServer
}

func (fixed) Whoami(context.Context, *whoami.WhoamiRequest) (*whoami.WhoamiReply, error) {
	return &whoami.WhoamiReply{Pod: "pod-a"}, nil
}

// counting counts the connections a listener accepts.
type counting struct {
	net.Listener
	n atomic.Int32
}

func (l *counting) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		l.n.Add(1)
	}
	return c, err
}

func listen(t *testing.T) (*counting, int) {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return &counting{Listener: lis}, lis.Addr().(*net.TCPAddr).Port
}

func get(t *testing.T, url string) (int, string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, strings.TrimSpace(string(b))
}

// The story rests on this: gRPC calls share one connection, HTTP calls never do.
func TestConnections(t *testing.T) {
	grpcLis, grpcPort := listen(t)
	httpLis, httpPort := listen(t)
	gs := grpc.NewServer()
	whoami.RegisterWhoAmIServer(gs, fixed{})
	go func() { _ = gs.Serve(grpcLis) }()
	t.Cleanup(gs.Stop)
	hs := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "pod-b\n") }))
	hs.Listener = httpLis
	hs.Start()
	t.Cleanup(hs.Close)
	c := newClients(httpPort, grpcPort)
	t.Cleanup(c.close)
	front := httptest.NewServer(c.handler())
	t.Cleanup(front.Close)

	const calls = 20
	for _, tc := range []struct {
		path, pod string
		lis       *counting
		conns     int32
	}{
		{"/grpc_client", "pod-a", grpcLis, 1},
		{"/http_client", "pod-b", httpLis, calls},
	} {
		for range calls {
			if status, body := get(t, front.URL+tc.path+"?name=localhost"); status != 200 || body != tc.pod {
				t.Fatalf("%s: %d %q, want 200 %q", tc.path, status, body, tc.pod)
			}
		}
		if n := tc.lis.n.Load(); n != tc.conns {
			t.Errorf("%s: %d connections for %d calls, want %d", tc.path, n, calls, tc.conns)
		}
	}
}

func TestBadName(t *testing.T) {
	front := httptest.NewServer(newClients(1, 1).handler())
	defer front.Close()
	for _, name := range []string{"", "a:1", "a/b", "-a", "UPPER"} {
		if status, body := get(t, front.URL+"/http_client?name="+name); status != 400 || !strings.Contains(body, "name:") {
			t.Errorf("%q: %d %q, want 400 that names the parameter", name, status, body)
		}
	}
	// A name that is fine but not there: 502 with the reason.
	if status, body := get(t, front.URL+"/http_client?name=localhost"); status != 502 || body == "" {
		t.Errorf("unreachable: %d %q, want 502", status, body)
	}
}
