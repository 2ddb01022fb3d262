package feature

import (
	"bufio"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	kubeclient "sigs.k8s.io/controller-runtime/pkg/client"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// shares are backends at port 9000, by weight.
func shares(weights map[string]int32) []gatewayv1.BackendRef {
	var out []gatewayv1.BackendRef
	for _, name := range slices.Sorted(maps.Keys(weights)) {
		b := backend(name, 9000)
		b.Weight = new(weights[name])
		out = append(out, b)
	}
	return out
}

// greeting is what the server says first, or nothing where the connection is closed at once.
func greeting(addr string) (string, error) {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return "", err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	line, err := bufio.NewReader(c).ReadString('\n')
	if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() {
		return "", err
	}
	return line, nil // closed or reset: nothing
}

// greetings counts those of some connections.
func greetings(t *testing.T, addr string, n int) map[string]int {
	t.Helper()
	var mu sync.Mutex
	out := map[string]int{}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			for range (n + 7 - i) / 8 {
				line, err := greeting(addr)
				if err != nil {
					t.Error(err)
				}
				mu.Lock()
				out[line]++
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return out
}

// within fails the test if a share is off by more than four standard deviations.
func within(t *testing.T, what string, got, of int, want float64) {
	t.Helper()
	if off := 4 * math.Sqrt(float64(of)*want*(1-want)); math.Abs(float64(got)-want*float64(of)) > off {
		t.Errorf("%s: %d of %d connections, want %.0f ± %.0f", what, got, of, want*float64(of), off)
	}
}

// TestTCPRouteShares: connections are shared by weight, whatever the port's protocol and whoever speaks first. The share of a
// backend that does not exist or has no endpoints is closed, and nobody else gets it; that of one that does not listen
// is shared by all.
func TestTCPRouteShares(t *testing.T) { bothWays(t, testTCPRouteShares) }

func testTCPRouteShares(t *testing.T, o option) {
	const v1, v2 = "10.244.0.5:9000", "10.244.0.6:9000"
	greeter(t, v1)
	greeter(t, v2)
	backends := map[string]service{
		"v1":     {ips: []string{"10.96.0.20"}, port: port("tcp", 9000), endpoints: []string{v1}},
		"v2":     {ips: []string{"10.96.0.21"}, port: port("http", 9000), endpoints: []string{v2}}, // a port is what the route says
		"nobody": {ips: []string{"10.96.0.22"}, port: port("tcp", 9000)},
		"dead":   {ips: []string{"10.96.0.23"}, port: port("tcp", 9000), endpoints: []string{"10.244.0.7:9001"}},
	}
	for i, name := range []string{"tcp", "http", "undeclared"} {
		t.Run(name, func(t *testing.T) {
			services := maps.Clone(backends)
			route := tcpRoute("shop", "shares", parent("shop", "db"), shares(map[string]int32{"v1": 60, "v2": 20, "nobody": 8, "dead": 7, "does-not-exist": 5})...)
			number := int32(7000 + i)
			services["db"] = service{ips: []string{"10.96.0.10"}, port: port(name, number), with: []kubeclient.Object{route}}
			// Another Service of the same port number has no routes.
			services["plain"] = service{ips: []string{"10.96.0.11"}, port: port(name, number), endpoints: []string{v2}}
			newMesh(t, services, o)
			const n = 1000
			got := greetings(t, fmt.Sprintf("10.96.0.10:%d", number), n)
			const listening = 1 - 0.07
			within(t, "v1", got["hello from "+v1+"\n"], n, 0.60/listening)
			within(t, "v2", got["hello from "+v2+"\n"], n, 0.20/listening)
			within(t, "closed", got[""], n, 0.13/listening)
			if name != "http" { // where nobody speaks first
				if line, err := greeting(fmt.Sprintf("10.96.0.11:%d", number)); line != "hello from "+v2+"\n" || err != nil {
					t.Errorf("a Service without routes: %q, %v", line, err)
				}
			}
		})
	}
}

// TestTCPRouteChanges: while connections are made all the time, a route comes, changes its weights and goes, and none of them
// fails. One that was made before stays where it is.
func TestTCPRouteChanges(t *testing.T) { bothWays(t, testTCPRouteChanges) }

func testTCPRouteChanges(t *testing.T, o option) {
	const v1, v2, addr = "10.244.0.5:9000", "10.244.0.6:9000", "10.96.0.10:7000"
	greeter(t, v1)
	greeter(t, v2)
	db := service{ips: []string{"10.96.0.10"}, port: port("tcp", 7000), endpoints: []string{v1}}
	w := newMesh(t, map[string]service{
		"db": db,
		"v1": {ips: []string{"10.96.0.20"}, port: port("tcp", 9000), endpoints: []string{v1}},
		"v2": {ips: []string{"10.96.0.21"}, port: port("tcp", 9000), endpoints: []string{v2}},
	}, o)
	to := func(name string) []kubeclient.Object {
		return []kubeclient.Object{tcpRoute("shop", "to", parent("shop", "db"), backend(name, 9000))}
	}
	old := dialGreeter(t, addr)
	done := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-done:
				t.Logf("%d connections", n)
				return
			default:
			}
			if line, err := greeting(addr); line == "" || err != nil {
				t.Errorf("connection %d: %q, %v", n, line, err)
				return
			}
		}
	})
	for range 3 {
		for _, step := range []struct {
			routes []kubeclient.Object
			want   string
		}{
			{to("v2"), v2},
			{to("v1"), v1},
			{to("v2"), v2},
			{nil, v1},
		} {
			db.with = step.routes
			w.change(map[string]service{"db": db})
			w.await("connections go to "+step.want, func() error {
				if line, err := greeting(addr); line != "hello from "+step.want+"\n" {
					return fmt.Errorf("%q, %v", line, err) //nolint:errorlint // err may be nil
				}
				return nil
			})
		}
	}
	close(done)
	load.Wait()
	if got := old.echo("still here"); got != "still here" {
		t.Errorf("the connection from before says %q", got)
	}
}

// TestTCPRouteOfConsumers: a route of the caller's namespace stands in for that of the Service's, one of another namespace
// does not concern it, and one for requests takes the port back.
func TestTCPRouteOfConsumers(t *testing.T) {
	const v1, v2, v3 = "10.244.0.5:9000", "10.244.0.6:9000", "10.244.0.7:9000"
	for _, addr := range []string{v1, v2, v3} {
		greeter(t, addr)
	}
	db := func(ip, portName string, with ...kubeclient.Object) service {
		return service{namespace: "data", ips: []string{ip}, port: port(portName, 7000), endpoints: []string{v1}, with: with}
	}
	// Routes of the Service's own namespace, and of the caller's or a third one. All send to Services of the caller's.
	producer := func(of string) kubeclient.Object {
		to := backend("v2", 9000)
		to.Namespace = new(gatewayv1.Namespace("shop"))
		return tcpRoute("data", of, parent("data", of), to)
	}
	consumer := func(namespace, of string) kubeclient.Object {
		to := backend("v3", 9000)
		to.Namespace = new(gatewayv1.Namespace("shop"))
		return tcpRoute(namespace, of, parent("data", of), to)
	}
	requests := backend("requests", 7000)
	requests.Namespace = new(gatewayv1.Namespace("data"))
	newMesh(t, map[string]service{
		"v2":       {ips: []string{"10.96.0.21"}, port: port("tcp", 9000), endpoints: []string{v2}, with: []kubeclient.Object{grant("shop", "TCPRoute", "data")}},
		"v3":       {ips: []string{"10.96.0.22"}, port: port("tcp", 9000), endpoints: []string{v3}, with: []kubeclient.Object{grant("shop", "TCPRoute", "elsewhere")}},
		"both":     db("10.96.0.10", "tcp", producer("both"), consumer("shop", "both")),
		"others":   db("10.96.0.11", "tcp", producer("others"), consumer("elsewhere", "others")),
		"requests": db("10.96.0.12", "", producer("requests"), httpRoute("shop", "requests", parent("data", "requests"), requests)),
	}, onDemand)
	for ip, want := range map[string]string{"10.96.0.10": v3, "10.96.0.11": v2, "10.96.0.12": v1} {
		if line, err := greeting(ip + ":7000"); line != "hello from "+want+"\n" || err != nil {
			t.Errorf("%s: %q, %v; want %s", ip, line, err, want)
		}
	}
}

// TestTLSRoute: connections go by the name that the client asks for, the most specific that a route has, and are closed
// where no route has it. Nobody ends the application's TLS.
func TestTLSRoute(t *testing.T) { bothWays(t, testTLSRoute) }

func testTLSRoute(t *testing.T, o option) {
	backends := map[string]string{"10.96.0.20": "10.244.0.5:9000", "10.96.0.21": "10.244.0.6:9000", "10.96.0.22": "10.244.0.7:9000"}
	services := map[string]service{}
	named := func(ip string) string { return "to-" + ip[strings.LastIndexByte(ip, '.')+1:] }
	for ip, addr := range backends {
		serveTLS(t, addr)
		services[named(ip)] = service{ips: []string{ip}, port: port("tls", 9000), endpoints: []string{addr}}
	}
	nobody := backend("to-20", 9000)
	nobody.Weight = new(int32(0))
	byName := parent("shop", "named")
	services["named"] = service{ips: []string{"10.96.0.10"}, port: port("https", 443), endpoints: []string{"10.244.0.5:9000"}, with: []kubeclient.Object{
		tlsRoute("a", byName, "a.example.com", backend("to-20", 9000)),
		tlsRoute("b", byName, "*.b.example.com", backend("to-22", 9000)),
		tlsRoute("c", byName, "*.example.com", backend("to-21", 9000)),
		tlsRoute("d", byName, "*.example.com", backend("to-22", 9000)), // which comes after it
		tlsRoute("e", byName, "nowhere.example.com", nobody),
	}}
	services["any"] = service{ips: []string{"10.96.0.11"}, port: port("", 443), endpoints: []string{"10.244.0.5:9000"}, with: []kubeclient.Object{
		tlsRoute("any", parent("shop", "any"), "", backend("to-22", 9000)),
	}}
	services["plain"] = service{ips: []string{"10.96.0.12"}, port: port("", 443), endpoints: []string{"10.244.0.6:9000"}}
	newMesh(t, services, o)
	for _, tt := range []struct{ addr, name, want string }{
		{"10.96.0.10:443", "a.example.com", "10.244.0.5:9000"},
		{"10.96.0.10:443", "A.Example.com", "10.244.0.5:9000"},
		{"10.96.0.10:443", "c.example.com", "10.244.0.6:9000"},
		{"10.96.0.10:443", "d.c.example.com", "10.244.0.6:9000"},
		{"10.96.0.10:443", "x.b.example.com", "10.244.0.7:9000"},
		{"10.96.0.10:443", "example.com", ""},
		{"10.96.0.10:443", "nowhere.example.com", ""},
		{"10.96.0.10:443", "elsewhere.org", ""},
		{"10.96.0.10:443", "", ""},
		{"10.96.0.11:443", "elsewhere.org", "10.244.0.7:9000"},
		{"10.96.0.11:443", "", "10.244.0.7:9000"},
		{"10.96.0.12:443", "a.example.com", "10.244.0.6:9000"},
	} {
		start := time.Now()
		if got := askTLS(tt.addr, tt.name); got != tt.want || time.Since(start) > 2*time.Second {
			t.Errorf("%s, name %q: %q after %s, want %q", tt.addr, tt.name, got, time.Since(start), tt.want)
		}
	}
	for _, addr := range []string{"10.96.0.10:443", "10.96.0.11:443"} {
		if a := exchange(t, addr, "GET / HTTP/1.0"); a.err == nil || a.body != "" || a.took > 2*time.Second {
			t.Errorf("%s, not TLS: %s, want the connection closed at once", addr, a)
		}
	}
	slow := dial(t, "10.96.0.10:443")
	time.Sleep(1500 * time.Millisecond) // longer than detection waits: the client says nothing yet
	conn := tls.Client(slow, &tls.Config{ServerName: "a.example.com", InsecureSkipVerify: true})
	if err := conn.Handshake(); err != nil {
		t.Errorf("a client that speaks late: %v", err)
	}
}

// serveTLS answers HTTPS with its own address.
func serveTLS(t *testing.T, addr string) {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, addr) }))
	_ = s.Listener.Close()
	s.Listener = l
	s.Config.ErrorLog = nil
	s.StartTLS()
	t.Cleanup(s.Close)
}

// askTLS gives the address of the server that answers, or nothing where the connection is closed.
func askTLS(addr, name string) string {
	c, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(5 * time.Second))
	conn := tls.Client(c, &tls.Config{ServerName: name, InsecureSkipVerify: true})
	if conn.Handshake() != nil {
		return ""
	}
	fmt.Fprintf(conn, "GET / HTTP/1.0\r\n\r\n")
	res, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return err.Error()
	}
	defer res.Body.Close()
	body, _ := io.ReadAll(res.Body)
	return string(body)
}
