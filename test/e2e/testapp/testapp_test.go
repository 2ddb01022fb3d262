package main

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/client"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/echo"
	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/server"
)

// freeAddr gives an address that was free a moment ago.
func freeAddr(t *testing.T) string {
	t.Helper()
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	return lis.Addr().String()
}

func start(t *testing.T) server.Options {
	t.Helper()
	one := func() []string { return []string{freeAddr(t)} }
	o := server.Options{
		Pod: "pod-a", HTTP: one(), GRPC: one(), TLS: one(), MySQL: one(), SMTP: one(), Echo: one(), UDP: one(), Control: one(),
		ShutdownTimeout: time.Second,
	}
	serve(t, o)
	return o
}

// serve runs a server until the end of the test, and waits until it listens.
func serve(t *testing.T, o server.Options) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- server.New(o, nil).Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
	for _, a := range slices.Concat(o.HTTP, o.GRPC, o.TLS, o.MySQL, o.SMTP, o.Echo, o.Control) {
		for deadline := time.Now().Add(5 * time.Second); ; {
			if c, err := net.Dial("tcp", a); err == nil {
				c.Close()
				break
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s does not listen", a)
			}
		}
	}
}

// What a call answers without any mesh is what the end-to-end tests compare with, so it is held here.
func TestCalls(t *testing.T) {
	o := start(t)
	url := "http://" + o.HTTP[0]
	for _, tc := range []struct {
		name string
		call api.Call
		ok   bool
		text string
	}{
		{"http", api.Call{Kind: api.HTTP, Target: url + "/x", Host: "other"}, true, "200 GET /x host=other body=0"},
		{"post", api.Call{Kind: api.HTTP, Target: url, Method: "POST", Body: 3 << 20, Host: "h"}, true, "200 POST / host=h body=3145728"},
		{"h2c", api.Call{Kind: api.HTTP2, Target: url, Host: "h"}, true, "200 GET / host=h body=0"},
		{"big", api.Call{Kind: api.HTTP, Target: url + "/big?n=100000"}, true, "200 100000 bytes"},
		{"echo body", api.Call{Kind: api.HTTP, Target: url + "/echo", Method: "POST", Body: 1000}, true, "200 1000 bytes"},
		{"stream", api.Call{Kind: api.HTTPStream, Target: url + "/stream?n=4"}, true, `200 4 chunks, trailer "whole"`},
		{"status", api.Call{Kind: api.HTTP, Target: url + "/status?code=503"}, false, "503 "},
		{"redirect to fail", api.Call{Kind: api.HTTP, Target: url + "/redirect-to-fail"}, false, "500 "},
		{"websocket", api.Call{Kind: api.WebSocket, Target: o.HTTP[0]}, true, "5 messages echoed"},
		{"grpc", api.Call{Kind: api.GRPC, Target: o.GRPC[0], Body: 10}, true, "1 replies, 10 bytes"},
		{"grpc stream", api.Call{Kind: api.GRPCStream, Target: o.GRPC[0], Body: 1}, true, "10 replies, 10 bytes"},
		{"grpc chat", api.Call{Kind: api.GRPCChat, Target: o.GRPC[0]}, true, "10 replies, 0 bytes"},
		{"grpc chat, idle for a while", api.Call{Kind: api.GRPCChat, Target: o.GRPC[0], Pause: 10 * time.Millisecond}, true, "10 replies, 0 bytes"},
		{"grpc, other method", api.Call{Kind: api.GRPCOther, Target: o.GRPC[0]}, true, "1 replies, 0 bytes"},
		{"grpc, asked to fail", api.Call{Kind: api.GRPC, Target: o.GRPC[0], Code: 14}, false, "failed: Unavailable"},
		{"grpc of another service", api.Call{Kind: api.WhoAmI, Target: o.GRPC[0]}, false, "failed: Unimplemented"},
		{"not the wanted answer", api.Call{Kind: api.HTTP, Target: url, Host: "h", Want: "POST"}, false, "200 GET / host=h body=0"},
		{"grpc to nobody", api.Call{Kind: api.GRPC, Target: freeAddr(t)}, false, "failed: Unavailable"},
		{"mysql", api.Call{Kind: api.MySQL, Target: o.MySQL[0]}, true, `greeting "8.0.36", echo select 1`},
		{"smtp", api.Call{Kind: api.SMTP, Target: o.SMTP[0]}, true, "220 test ESMTP, then 250"},
		{"smtp where nobody speaks first", api.Call{Kind: api.SMTP, Target: o.Echo[0], Timeout: 100 * time.Millisecond}, false, "failed: timeout"},
		{"echo", api.Call{Kind: api.Echo, Target: o.Echo[0]}, true, "echo select 1"},
		{"tls", api.Call{Kind: api.TLS, Target: o.TLS[0], Host: "h"}, true, "200 GET / host=h body=0"},
		{"tls to plain", api.Call{Kind: api.TLS, Target: o.HTTP[0]}, false, "failed: other"},
		{"connect", api.Call{Kind: api.Connect, Target: o.Echo[0]}, true, "connected"},
		{"connect to nobody", api.Call{Kind: api.Connect, Target: freeAddr(t)}, false, "failed: refused"},
		{"exchange", api.Call{Kind: api.Exchange, Target: o.Echo[0], Content: []byte("a\nb\n")}, true, "pod-a a\npod-a b\n"},
		{"exchange over TLS", api.Call{Kind: api.Exchange, Target: o.TLS[0], Content: []byte("GET /echo HTTP/1.1\r\n\r\n"), TLS: &api.ClientTLS{}}, true,
			"HTTP/1.1 400 Bad Request: missing required Host header\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n\r\n400 Bad Request: missing required Host header"},
		{"exchange where nobody answers", api.Call{Kind: api.Exchange, Target: o.Echo[0], Content: []byte("a")}, false, "failed: timeout"},
		{"content and header", api.Call{Kind: api.HTTP, Target: url + "/need-header", Host: "probe.example", Headers: map[string]string{"X-Probe": "yes"}}, true, "200 "},
		{"content", api.Call{Kind: api.HTTP, Target: "https://" + o.TLS[0] + "/echo", Method: "POST", Content: []byte("hello"), TLS: &api.ClientTLS{}}, true, "200 hello"},
		{"no certificate", api.Call{Kind: api.Exchange, Target: o.TLS[0], TLS: &api.ClientTLS{Certificate: "x"}}, false, "failed: other"},
		{"grpc bytes", api.Call{Kind: api.GRPCBytes, Target: o.GRPC[0], GRPCMethod: echo.Echo_Chat_FullMethodName, Content: marshal(t, &echo.Request{Body: make([]byte, 10)})}, true, "21 bytes"},
		{"grpc bytes that nobody knows", api.Call{Kind: api.GRPCBytes, Target: o.GRPC[0], GRPCMethod: "/x.Y/Z"}, false, "failed: Unimplemented"},
		{"grpc bytes to plain HTTP", api.Call{Kind: api.GRPCBytes, Target: o.TLS[0], GRPCMethod: "/x.Y/Z", TLS: &api.ClientTLS{}}, false, "failed: Unavailable"},
		{"udp", api.Call{Kind: api.UDP, Target: o.UDP[0]}, true, "udp ping"},
		{"no such host", api.Call{Kind: api.HTTP, Target: "http://nobody.invalid/"}, false, "failed: no such host"},
		{"unknown kind", api.Call{Kind: "x"}, false, "failed: other"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			a := client.Do(t.Context(), tc.call)
			if a.OK != tc.ok || a.Text != tc.text {
				t.Errorf("got %+v, want ok=%t %q", a, tc.ok, tc.text)
			}
			if want := tc.ok && tc.call.TLS != nil; want != strings.Contains(a.Peer, "CERTIFICATE") {
				t.Errorf("server's certificate %q, want one: %t", a.Peer, want)
			}
			if !a.OK && a.Error == "" {
				t.Error("failed without a reason")
			}
		})
	}
}

func marshal(t *testing.T, m proto.Message) []byte {
	t.Helper()
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// The switch of the control port turns every gRPC call into a failure that counts as carried out.
func TestFailing(t *testing.T) {
	o := server.Options{GRPC: []string{freeAddr(t)}, Control: []string{freeAddr(t)}, ShutdownTimeout: time.Second}
	serve(t, o)
	control := "http://" + o.Control[0]
	executed := func() (n int) {
		resp, err := http.Get(control + "/executed")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if _, err := fmt.Fscan(resp.Body, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := executed()
	for _, code := range []int{14, 0} {
		resp, err := http.Post(fmt.Sprintf("%s/fail?code=%d", control, code), "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if a := client.Do(t.Context(), api.Call{Kind: api.GRPC, Target: o.GRPC[0]}); a.Status != code || a.OK != (code == 0) {
			t.Errorf("code %d: got %+v", code, a)
		}
	}
	if n := executed() - before; n != 2 {
		t.Errorf("%d calls executed, want 2", n)
	}
}

func TestLoad(t *testing.T) {
	o := start(t)
	for _, tc := range []struct {
		name          string
		load          api.Load
		calls, failed int
	}{
		{"grpc, as fast as it goes", api.Load{Call: api.Call{Kind: api.GRPC, Target: o.GRPC[0]}, Calls: 200, Concurrency: 4}, 200, 0},
		{"lines over one connection", api.Load{Call: api.Call{Kind: api.MySQL, Target: o.MySQL[0]}, Calls: 20, Concurrency: 2}, 20, 0},
		{"lines, each over its own", api.Load{Call: api.Call{Kind: api.Echo, Target: o.Echo[0]}, Calls: 20, Fresh: true}, 20, 0},
		{"a connection that is lost", api.Load{Call: api.Call{Kind: api.Echo, Target: o.TLS[0]}, Calls: 3}, 3, 3},
		{"http, paced", api.Load{Call: api.Call{Kind: api.HTTP, Target: "http://" + o.HTTP[0]}, Calls: 20, Rate: 200}, 20, 0},
		{"http, paced, one at a time", api.Load{Call: api.Call{Kind: api.HTTP, Target: "http://" + o.HTTP[0]}, Calls: 20, Rate: 1e6, Concurrency: 1}, 20, 0},
		{"all fail", api.Load{Call: api.Call{Kind: api.HTTP, Target: "http://" + o.HTTP[0] + "/status?code=500"}, Calls: 7}, 7, 7},
		{"for a time", api.Load{Call: api.Call{Kind: api.GRPC, Target: o.GRPC[0]}, Rate: 100, Duration: 200 * time.Millisecond}, 0, 0},
	} {
		t.Run(tc.name, func(t *testing.T) {
			run, err := client.Start(t.Context(), tc.load)
			if err != nil {
				t.Fatal(err)
			}
			run.Wait()
			r := run.Result()
			if !r.Done || r.Failed != tc.failed || r.InFlight != 0 || r.Calls != r.Failed+r.Pods["pod-a"] {
				t.Errorf("got %+v", r)
			}
			if tc.calls > 0 && r.Calls != tc.calls || tc.calls == 0 && (r.Calls < 10 || r.Calls > 20) {
				t.Errorf("%d calls, want %d", r.Calls, tc.calls)
			}
			if r.Max == 0 || r.P50 > r.Max || len(r.Failures) != r.Failed {
				t.Errorf("latencies or failures: %+v", r)
			}
		})
	}
}

// A server that ends each connection after one answer costs whoever connects again no call, and whoever does not all but one.
func TestReconnect(t *testing.T) {
	lis, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer lis.Close()
	go func() {
		for {
			c, err := lis.Accept()
			if err != nil {
				return
			}
			line, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprintf(c, "pod-a %s", line)
			c.Close()
		}
	}()
	for _, tc := range []struct {
		reconnect           bool
		keep, failed, known int
	}{{true, 0, 0, 0}, {false, 0, 4, 4}, {false, 3, 4, 3}} {
		load := api.Load{Call: api.Call{Kind: api.Echo, Target: lis.Addr().String()}, Calls: 5, Rate: 20, Reconnect: tc.reconnect, Keep: tc.keep}
		run, err := client.Start(t.Context(), load)
		if err != nil {
			t.Fatal(err)
		}
		run.Wait()
		if r := run.Result(); r.Calls != 5 || r.Failed != tc.failed || len(r.Failures) != tc.known {
			t.Errorf("%+v: %+v", tc, r)
		}
	}
}

func TestControlRefusesNonsense(t *testing.T) {
	h := httptest.NewServer(client.Control())
	defer h.Close()
	for path, want := range map[string]int{"/load": 400, "/load/7/stop": 404} {
		resp, err := h.Client().Post(h.URL+path, "application/json", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, want)
		}
	}
}
