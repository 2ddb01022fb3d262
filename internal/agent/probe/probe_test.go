package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

const userAgent = "kube-probe/1.37"

// both runs the test for a pod of each IP family.
func both(t *testing.T, test func(t *testing.T, p *Prober, ip string)) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) { test(t, New(netip.MustParseAddr(ip), false), ip) })
	}
}

func listen(t *testing.T, ip string) (net.Listener, int32) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(ip, "0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l, int32(l.Addr().(*net.TCPAddr).Port)
}

// serveHTTP gives the port of an application, and of one that speaks TLS or h2c if asked.
func serveHTTP(t *testing.T, ip, kind string, h http.HandlerFunc) int32 {
	t.Helper()
	l, port := listen(t, ip)
	s := httptest.NewUnstartedServer(h)
	s.Listener.Close()
	s.Listener = l
	switch kind {
	case "tls":
		s.StartTLS()
	case "h2c":
		s.Config.Protocols = new(http.Protocols)
		s.Config.Protocols.SetUnencryptedHTTP2(true)
		s.Start()
	default:
		s.Start()
	}
	t.Cleanup(s.Close)
	return port
}

// app answers by path, and 418 where the request is not what the kubelet sends.
func app(w http.ResponseWriter, r *http.Request) {
	switch r.URL.Path {
	case "/ok", "/same-host/done":
	case "/query":
		expect(w, r.URL.RawQuery == "a=b&c=%20d", r.URL.RawQuery)
	case "/headers":
		expect(w, r.Header.Get("X-Own") == "1" && len(r.Header["X-Twice"]) == 2 && r.Host == "shop.example", fmt.Sprint(r.Host, r.Header))
	case "/defaults":
		_, compressed := r.Header["Accept-Encoding"]
		expect(w, r.UserAgent() == userAgent && r.Header.Get("Accept") == "*/*" && !compressed, fmt.Sprint(r.Header))
	case "/own-agent":
		_, accept := r.Header["Accept"]
		expect(w, r.UserAgent() == "mine" && !accept, fmt.Sprint(r.Header))
	case "/no-content":
		w.WriteHeader(http.StatusNoContent)
	case "/same-host":
		http.Redirect(w, r, "/same-host/done", http.StatusFound)
	case "/same-host-fails":
		http.Redirect(w, r, "/missing", http.StatusFound)
	case "/other-host":
		http.Redirect(w, r, "http://elsewhere.invalid/", http.StatusMovedPermanently)
	case "/loop":
		http.Redirect(w, r, "/loop", http.StatusFound)
	case "/error":
		w.WriteHeader(http.StatusInternalServerError)
	case "/hangs":
		<-r.Context().Done()
	case "/large":
		fmt.Fprint(w, strings.Repeat("x", 1<<20))
	case "/http2":
		expect(w, r.ProtoMajor == 2, r.Proto)
	default:
		w.WriteHeader(http.StatusNotFound)
	}
}

func expect(w http.ResponseWriter, ok bool, got string) {
	if !ok {
		w.Header().Set("Content-Type", "text/plain")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprint(w, got)
	}
}

func TestHTTPGet(t *testing.T) {
	headers := func(kv ...string) (out []appprobe.HTTPHeader) {
		for i := 0; i < len(kv); i += 2 {
			out = append(out, appprobe.HTTPHeader{Name: kv[i], Value: kv[i+1]})
		}
		return out
	}
	for _, tt := range []struct {
		name   string
		kind   string
		action appprobe.HTTPGet
		want   string // part of the error; empty is success
	}{
		{"200", "", appprobe.HTTPGet{Path: "/ok"}, ""},
		{"path without slash", "", appprobe.HTTPGet{Path: "ok"}, ""},
		{"204", "", appprobe.HTTPGet{Path: "/no-content"}, ""},
		{"404", "", appprobe.HTTPGet{Path: "/missing"}, "statuscode: 404"},
		{"500", "", appprobe.HTTPGet{Path: "/error"}, "statuscode: 500"},
		{"query", "", appprobe.HTTPGet{Path: "/query?a=b&c=%20d"}, ""},
		{"headers and Host", "", appprobe.HTTPGet{
			Path: "/headers", HTTPHeaders: headers("X-Own", "1", "Host", "shop.example", "x-twice", "1", "X-Twice", "2"),
		}, ""},
		{"default headers", "", appprobe.HTTPGet{Path: "/defaults"}, ""},
		{"own User-Agent, no Accept", "", appprobe.HTTPGet{
			Path: "/own-agent", HTTPHeaders: headers("User-Agent", "mine", "Accept", ""),
		}, ""},
		{"redirect to the same host", "", appprobe.HTTPGet{Path: "/same-host"}, ""},
		{"redirect to a failure", "", appprobe.HTTPGet{Path: "/same-host-fails"}, "statuscode: 404"},
		{"redirect to another host", "", appprobe.HTTPGet{Path: "/other-host"}, ""},
		{"redirect without end", "", appprobe.HTTPGet{Path: "/loop"}, "stopped after 10 redirects"},
		{"large answer", "", appprobe.HTTPGet{Path: "/large"}, ""},
		{"no answer", "", appprobe.HTTPGet{Path: "/hangs"}, "no answer within 1s"},
		{"HTTPS", "tls", appprobe.HTTPGet{Path: "/ok", Scheme: appprobe.SchemeHTTPS}, ""},
		{"HTTPS to a plain server", "", appprobe.HTTPGet{Path: "/ok", Scheme: appprobe.SchemeHTTPS}, "server gave HTTP response to HTTPS client"},
		{"h2c", "h2c", appprobe.HTTPGet{Path: "/http2", Protocol: appprobe.ProtocolHTTP2}, ""},
		{"host", "", appprobe.HTTPGet{Path: "/ok", Host: "localhost.invalid"}, "localhost.invalid"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, p *Prober, ip string) {
				t.Parallel()
				action := tt.action
				action.Port = serveHTTP(t, ip, tt.kind, app)
				check(t, p.Do(t.Context(), appprobe.Handler{HTTPGet: &action, TimeoutSeconds: 1}, userAgent), tt.want)
			})
		})
	}
}

func TestStatusErrorIsTold(t *testing.T) {
	p := New(netip.MustParseAddr("127.0.0.1"), false)
	action := &appprobe.HTTPGet{Path: "/error", Port: serveHTTP(t, "127.0.0.1", "", app)}
	var status StatusError
	if err := p.Do(t.Context(), appprobe.Handler{HTTPGet: action}, userAgent); !errors.As(err, &status) || status != 500 {
		t.Errorf("error %v, want status 500", err)
	}
}

func TestTCPSocket(t *testing.T) {
	both(t, func(t *testing.T, p *Prober, ip string) {
		l, port := listen(t, ip)
		action := &appprobe.TCPSocket{Port: port}
		check(t, p.Do(t.Context(), appprobe.Handler{TCPSocket: action}, userAgent), "")
		l.Close()
		check(t, p.Do(t.Context(), appprobe.Handler{TCPSocket: action}, userAgent), "connection refused")
	})
}

// An application on loopback only must fail: the kubelet could not reach it either.
func TestLoopbackListenerStaysPrivate(t *testing.T) {
	_, port := listen(t, "127.0.0.1")
	p := New(netip.MustParseAddr("127.0.0.2"), false) // stands for the pod's own address
	h := appprobe.Handler{TCPSocket: &appprobe.TCPSocket{Port: port}}
	check(t, p.Do(t.Context(), h, userAgent), "connection refused")
}

func TestGRPC(t *testing.T) {
	for _, tt := range []struct {
		name   string
		tls    bool
		action appprobe.GRPC
		want   string
	}{
		{"serving", false, appprobe.GRPC{}, ""},
		{"service serving", false, appprobe.GRPC{Service: "cart"}, ""},
		{"service not serving", false, appprobe.GRPC{Service: "till"}, "NOT_SERVING"},
		{"unknown service", false, appprobe.GRPC{Service: "nobody"}, "unknown service"},
		{"TLS", true, appprobe.GRPC{Mode: appprobe.ModeTLS}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			both(t, func(t *testing.T, p *Prober, ip string) {
				tt.action.Port = serveHealth(t, ip, tt.tls)
				check(t, p.Do(t.Context(), appprobe.Handler{GRPC: &tt.action, TimeoutSeconds: 1}, userAgent), tt.want)
			})
		})
	}
	t.Run("nobody listens", func(t *testing.T) {
		l, port := listen(t, "127.0.0.1")
		l.Close()
		p := New(netip.MustParseAddr("127.0.0.1"), false)
		check(t, p.Do(t.Context(), appprobe.Handler{GRPC: &appprobe.GRPC{Port: port}}, userAgent), "connection refused")
	})
	t.Run("no gRPC server", func(t *testing.T) {
		p := New(netip.MustParseAddr("127.0.0.1"), false)
		action := &appprobe.GRPC{Port: serveHTTP(t, "127.0.0.1", "", app)}
		check(t, p.Do(t.Context(), appprobe.Handler{GRPC: action}, userAgent), "health rpc failed")
	})
}

func serveHealth(t *testing.T, ip string, useTLS bool) int32 {
	t.Helper()
	l, port := listen(t, ip)
	var opts []grpc.ServerOption
	if useTLS {
		https := httptest.NewTLSServer(nil) // for its certificate
		defer https.Close()
		opts = append(opts, grpc.Creds(credentials.NewTLS(&tls.Config{Certificates: https.TLS.Certificates})))
	}
	s := grpc.NewServer(opts...)
	h := health.NewServer()
	h.SetServingStatus("cart", healthv1.HealthCheckResponse_SERVING)
	h.SetServingStatus("till", healthv1.HealthCheckResponse_NOT_SERVING)
	healthv1.RegisterHealthServer(s, h)
	go s.Serve(l)
	t.Cleanup(s.Stop)
	return port
}

func TestEmptyHandlerAndCancel(t *testing.T) {
	p := New(netip.MustParseAddr("127.0.0.1"), false)
	check(t, p.Do(t.Context(), appprobe.Handler{}, userAgent), "no action")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	action := &appprobe.HTTPGet{Path: "/hangs", Port: serveHTTP(t, "127.0.0.1", "", app)}
	check(t, p.Do(ctx, appprobe.Handler{HTTPGet: action}, userAgent), "context canceled")
}

func check(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("failed: %v", err)
	case want != "" && (err == nil || !strings.Contains(err.Error(), want)):
		t.Errorf("error %v, want %q in it", err, want)
	}
}
