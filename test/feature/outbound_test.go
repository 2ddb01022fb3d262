package feature

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

func port(name string, number int32) corev1.ServicePort {
	return corev1.ServicePort{Name: name, Port: number, Protocol: corev1.ProtocolTCP}
}

// httpBackend answers with its own address, whatever version of HTTP it is asked in.
func httpBackend(t *testing.T, addr string) {
	t.Helper()
	serveHTTP(t, addr, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, addr) }))
}

func serveHTTP(t *testing.T, addr string, h http.Handler) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: new(http.Protocols), ReadHeaderTimeout: 10 * time.Second}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	go s.Serve(l)
	t.Cleanup(func() { s.Close() })
}

// greeter speaks first, like MySQL, then says back what it hears.
func greeter(t *testing.T, addr string) {
	t.Helper()
	serveTCP(t, addr, func(c net.Conn) {
		fmt.Fprintf(c, "hello from %s\n", addr)
		_, _ = io.Copy(c, c)
	})
}

// serveTCP handles each connection in a goroutine of its own and closes it.
func serveTCP(t *testing.T, addr string, handle func(net.Conn)) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go listentest.Serve(l, handle)
}

// client speaks HTTP/1.1 or, with h2, HTTP/2 in plain text with prior knowledge, over one connection.
func client(t *testing.T, h2 bool) *http.Client {
	transport := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1}
	transport.Protocols.SetHTTP1(!h2)
	transport.Protocols.SetUnencryptedHTTP2(h2)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport, Timeout: 10 * time.Second}
}

func get(c *http.Client, url string) (int, string, error) {
	res, err := c.Get(url)
	if err != nil {
		return 0, "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return res.StatusCode, string(b), err
}

// TestHTTP: one client connection, three endpoints, every call balanced, in every protocol version,
// declared and detected, over IPv4 and IPv6.
func TestHTTP(t *testing.T) {
	bothWays(t, testHTTP)
	t.Run("without identities", func(t *testing.T) { testHTTP(t, withoutIdentities) })
}

func testHTTP(t *testing.T, o option) {
	backends := []string{"10.244.0.5:8081", "10.244.0.6:8081", "10.244.0.7:8081"}
	for _, b := range append(backends, "[fd00:244::5]:8081") {
		httpBackend(t, b)
	}
	newMesh(t, map[string]service{
		"declared": {ips: []string{"10.96.0.10"}, port: port("http", 8081), endpoints: backends},
		"detected": {ips: []string{"10.96.0.11", "fd00:96::11"}, port: port("", 8081), endpoints: append(backends, "[fd00:244::5]:8081")},
	}, o)
	for _, tt := range []struct {
		name, url string
		h2        bool
		want      []string
	}{
		{"declared HTTP/1.1", "http://10.96.0.10:8081/", false, backends},
		{"declared HTTP/2", "http://10.96.0.10:8081/", true, backends},
		{"detected HTTP/1.1", "http://10.96.0.11:8081/", false, backends},
		{"detected HTTP/2", "http://10.96.0.11:8081/", true, backends},
		{"detected HTTP/2 over IPv6", "http://[fd00:96::11]:8081/", true, []string{"[fd00:244::5]:8081"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			const calls = 600
			c, got := client(t, tt.h2), map[string]int{}
			for range calls {
				status, body, err := get(c, tt.url)
				if err != nil || status != http.StatusOK {
					t.Fatalf("status %d, body %q, error %v", status, body, err)
				}
				got[body]++
			}
			for _, b := range tt.want {
				if share := float64(got[b]) / calls * float64(len(tt.want)); share < 0.75 || share > 1.25 {
					t.Errorf("%s got %d of %d calls over %d endpoints", b, got[b], calls, len(tt.want))
				}
			}
		})
	}
}

// TestOpaque: a server that speaks first, on a declared port, on a well-known port, on an undeclared
// port (after the detection timeout), and on a port number that another Service uses for HTTP.
func TestOpaque(t *testing.T) { bothWays(t, testOpaque) }

func testOpaque(t *testing.T, o option) {
	greeter(t, "10.244.0.5:9000")
	httpBackend(t, "10.244.0.6:9000")
	endpoints := []string{"10.244.0.5:9000"}
	newMesh(t, map[string]service{
		"declared":   {ips: []string{"10.96.0.20"}, port: port("tcp-db", 9000), endpoints: endpoints},
		"well-known": {ips: []string{"10.96.0.21"}, port: port("db", 3306), endpoints: endpoints},
		"undeclared": {ips: []string{"10.96.0.22"}, port: port("db", 9001), endpoints: endpoints},
		"web":        {ips: []string{"10.96.0.23"}, port: port("http", 9000), endpoints: []string{"10.244.0.6:9000"}},
	}, o)
	for _, tt := range []struct {
		addr string
		most time.Duration
	}{
		{"10.96.0.20:9000", 500 * time.Millisecond},
		{"10.96.0.21:3306", 500 * time.Millisecond},
		{"10.96.0.22:9001", 3 * time.Second},
	} {
		start := time.Now()
		if got := dialGreeter(t, tt.addr).hello; got != "hello from 10.244.0.5:9000" {
			t.Errorf("%s: %q", tt.addr, got)
		}
		if took := time.Since(start); took > tt.most {
			t.Errorf("%s: the greeting took %s, want at most %s", tt.addr, took, tt.most)
		}
	}
	if status, body, err := get(client(t, false), "http://10.96.0.23:9000/"); err != nil || body != "10.244.0.6:9000" {
		t.Errorf("HTTP on the same port number: status %d, body %q, error %v", status, body, err)
	}
}

// greeted is a connection to a greeter.
type greeted struct {
	t     *testing.T
	conn  net.Conn
	lines *bufio.Reader
	hello string
}

func dialGreeter(t *testing.T, addr string) *greeted {
	t.Helper()
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	g := &greeted{t: t, conn: c, lines: bufio.NewReader(c)}
	g.hello = g.line()
	return g
}

func (g *greeted) line() string {
	g.t.Helper()
	_ = g.conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	line, err := g.lines.ReadString('\n')
	if err != nil {
		g.t.Fatalf("%s: read %q: %v", g.conn.RemoteAddr(), line, err)
	}
	return strings.TrimSpace(line)
}

func (g *greeted) echo(text string) string {
	g.t.Helper()
	if _, err := fmt.Fprintln(g.conn, text); err != nil {
		g.t.Fatal(err)
	}
	return g.line()
}

// TestNoEndpoints: a clear 503 at once, UNAVAILABLE for gRPC, and a closed connection for TCP.
func TestNoEndpoints(t *testing.T) {
	newMesh(t, map[string]service{
		"web": {ips: []string{"10.96.0.30"}, port: port("http", 80)},
		"db":  {ips: []string{"10.96.0.31"}, port: port("tcp", 5000)},
	})
	start := time.Now()
	status, body, err := get(client(t, false), "http://10.96.0.30/")
	if err != nil || status != http.StatusServiceUnavailable || body != "mizzen: outbound/shop/web/80 has no ready endpoint\n" {
		t.Errorf("status %d, body %q, error %v", status, body, err)
	}
	if took := time.Since(start); took > time.Second {
		t.Errorf("took %s", took)
	}
	req, _ := http.NewRequestWithContext(context.Background(), http.MethodPost, "http://10.96.0.30/a.B/C", nil)
	req.Header.Set("Content-Type", "application/grpc")
	res, err := client(t, true).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if got := res.Header.Get("Grpc-Status"); got != "14" {
		t.Errorf("grpc-status %q (message %q), want 14", got, res.Header.Get("Grpc-Message"))
	}
	c, err := net.Dial("tcp", "10.96.0.31:5000")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 1)); n != 0 || err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("TCP: read %d bytes, error %v; want a closed connection", n, err)
	}
}

// TestNothingIsAdded: what the server sees is what the client sent, and the routing header can
// neither be forged nor leaks.
func TestNothingIsAdded(t *testing.T) {
	seen := make(chan *http.Request, 1)
	serveHTTP(t, "10.244.0.5:8080", http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Clone(context.Background()) }))
	newMesh(t, map[string]service{
		"web":   {ips: []string{"10.96.0.40"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}},
		"other": {ips: []string{"10.96.0.41"}, port: port("http", 80)},
	})
	req := httptest.NewRequest(http.MethodGet, "http://10.96.0.40/a%2Fb//c/../d?x=1", nil)
	req.RequestURI, req.Host = "", "other.example"
	req.Header.Set("X-Mizzen-Destination", "10.96.0.41:80")
	req.Header.Set("X-Request-Id", "mine")
	res, err := client(t, false).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	res.Body.Close()
	if res.StatusCode != http.StatusOK {
		t.Fatalf("status %d", res.StatusCode)
	}
	got := <-seen
	if got.RequestURI != "/a%2Fb//c/../d?x=1" || got.Host != "other.example" {
		t.Errorf("target %q, host %q", got.RequestURI, got.Host)
	}
	allowed := map[string]bool{"Accept-Encoding": true, "User-Agent": true, "X-Request-Id": true, "X-Forwarded-Proto": true}
	for name, values := range got.Header {
		if !allowed[name] {
			t.Errorf("the server saw %s: %q", name, values)
		}
	}
	if res.Header.Get("Server") != "" || res.Header.Get("X-Envoy-Upstream-Service-Time") != "" {
		t.Errorf("the client saw %v", res.Header)
	}
}

// TestUnknownServiceAddress: an address of the Service range that no Service has, on a port number
// that others use, gets a clear answer. (Addresses outside the range: see test/e2e.)
func TestUnknownServiceAddress(t *testing.T) {
	newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.50"}, port: port("http", 80)}})
	status, body, err := get(client(t, false), "http://10.96.0.51/")
	if err != nil || status != http.StatusServiceUnavailable || body != "mizzen: no Service has the address 10.96.0.51:80\n" {
		t.Errorf("status %d, body %q, error %v", status, body, err)
	}
}

// TestHTTP1AsSent: names and reason phrases keep their letters, and HTTP/1.0 needs no Host.
func TestHTTP1AsSent(t *testing.T) {
	requests := make(chan string, 10)
	serveTCP(t, "10.244.0.5:8080", func(c net.Conn) {
		var request strings.Builder
		for r := bufio.NewReader(c); !strings.HasSuffix(request.String(), "\r\n\r\n"); {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			request.WriteString(line)
		}
		requests <- request.String()
		fmt.Fprint(c, "HTTP/1.1 404 Nowhere At All\r\nX-WeIrD: 1\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	})
	newMesh(t, map[string]service{"web": {ips: []string{"10.96.0.90"}, port: port("http", 80), endpoints: []string{"10.244.0.5:8080"}}})
	for name, request := range map[string]string{
		"HTTP/1.1":              "GET /a HTTP/1.1\r\nHost: web\r\nX-MiXeD: 1\r\nConnection: close\r\n\r\n",
		"HTTP/1.0 without Host": "GET /a HTTP/1.0\r\nX-MiXeD: 1\r\n\r\n",
	} {
		c, err := net.Dial("tcp", "10.96.0.90:80")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprint(c, request)
		answer, err := io.ReadAll(c)
		if err != nil {
			t.Fatalf("%s: %q: %v", name, answer, err)
		}
		if !strings.Contains(string(answer), " 404 Nowhere At All\r\n") || !strings.Contains(string(answer), "\r\nX-WeIrD: 1\r\n") {
			t.Errorf("%s: answer %q", name, answer)
		}
		if seen := <-requests; !strings.Contains(seen, "\r\nX-MiXeD: 1\r\n") {
			t.Errorf("%s: the server saw %q", name, seen)
		}
	}
}
