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
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// share is a backend of a route: a Service of namespace "shop" at port 9000, or one that does not exist.
type share struct {
	ip     string
	weight uint32
}

const noSuchService = ""

func connectionRule(kind mesh.RouteKind, name string, shares ...share) mesh.Rule {
	r := mesh.Rule{Origin: mesh.Origin{Route: mesh.RouteID{Kind: kind, Key: mesh.Key{Namespace: "shop", Name: "route"}}}, Action: &mesh.Action{}}
	if kind == mesh.TLSRoute {
		r.Match.TLS = &mesh.TLSMatch{ServerName: name}
	}
	for _, s := range shares {
		b := mesh.Backend{Weight: s.weight}
		if s.ip != noSuchService {
			ip := netip.MustParseAddr(s.ip)
			b.Valid, b.Target = true, mesh.Target{Port: 9000, Families: []mesh.Family{mesh.FamilyOf(ip)}, ClusterIPs: []netip.Addr{ip}}
		}
		r.Action.Backends = append(r.Action.Backends, b)
	}
	r.Action.Refuse = len(shares) == 0
	return r
}

func producer(number uint16, rules ...mesh.Rule) map[uint16]mesh.PortRules {
	return map[uint16]mesh.PortRules{number: {Producer: rules}}
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
			shares := connectionRule(mesh.TCPRoute, "", share{"10.96.0.20", 60}, share{"10.96.0.21", 20}, share{"10.96.0.22", 8}, share{"10.96.0.23", 7}, share{noSuchService, 5})
			number := int32(7000 + i)
			services["db"] = service{ips: []string{"10.96.0.10"}, port: port(name, number), rules: producer(uint16(number), shares)}
			// Another Service of the same port number has no routes.
			services["plain"] = service{ips: []string{"10.96.0.11"}, port: port(name, number), endpoints: []string{v2}}
			newWorld(t, services, o)
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
	w := newWorld(t, map[string]service{
		"db": db,
		"v1": {ips: []string{"10.96.0.20"}, port: port("tcp", 9000), endpoints: []string{v1}},
		"v2": {ips: []string{"10.96.0.21"}, port: port("tcp", 9000), endpoints: []string{v2}},
	}, o)
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
			rules map[uint16]mesh.PortRules
			want  string
		}{
			{producer(7000, connectionRule(mesh.TCPRoute, "", share{"10.96.0.21", 1})), v2},
			{producer(7000, connectionRule(mesh.TCPRoute, "", share{"10.96.0.20", 1})), v1},
			{producer(7000, connectionRule(mesh.TCPRoute, "", share{"10.96.0.21", 1})), v2},
			{nil, v1},
		} {
			db.rules = step.rules
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
	to := func(ip string) []mesh.Rule { return []mesh.Rule{connectionRule(mesh.TCPRoute, "", share{ip, 1})} }
	db := func(ip string, rules mesh.PortRules) service {
		return service{namespace: "data", ips: []string{ip}, port: port("tcp", 7000), endpoints: []string{v1}, rules: map[uint16]mesh.PortRules{7000: rules}}
	}
	newWorld(t, map[string]service{
		"v2":       {ips: []string{"10.96.0.21"}, port: port("tcp", 9000), endpoints: []string{v2}},
		"v3":       {ips: []string{"10.96.0.22"}, port: port("tcp", 9000), endpoints: []string{v3}},
		"both":     db("10.96.0.10", mesh.PortRules{Producer: to("10.96.0.21"), Consumer: map[string][]mesh.Rule{"shop": to("10.96.0.22")}}),
		"others":   db("10.96.0.11", mesh.PortRules{Producer: to("10.96.0.21"), Consumer: map[string][]mesh.Rule{"elsewhere": to("10.96.0.22")}}),
		"requests": db("10.96.0.12", mesh.PortRules{Producer: to("10.96.0.21"), Consumer: map[string][]mesh.Rule{"shop": {}}}),
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
	for ip, addr := range backends {
		serveTLS(t, addr)
		services["to-"+ip] = service{ips: []string{ip}, port: port("tls", 9000), endpoints: []string{addr}}
	}
	named := []mesh.Rule{
		connectionRule(mesh.TLSRoute, "a.example.com", share{"10.96.0.20", 1}),
		connectionRule(mesh.TLSRoute, "*.b.example.com", share{"10.96.0.22", 1}),
		connectionRule(mesh.TLSRoute, "*.example.com", share{"10.96.0.21", 1}),
		connectionRule(mesh.TLSRoute, "*.example.com", share{"10.96.0.22", 1}), // of a younger route
		connectionRule(mesh.TLSRoute, "nowhere.example.com"),
	}
	anyName := []mesh.Rule{connectionRule(mesh.TLSRoute, "", share{"10.96.0.22", 1})}
	services["named"] = service{ips: []string{"10.96.0.10"}, port: port("https", 443), endpoints: []string{"10.244.0.5:9000"}, rules: producer(443, named...)}
	services["any"] = service{ips: []string{"10.96.0.11"}, port: port("", 443), endpoints: []string{"10.244.0.5:9000"}, rules: producer(443, anyName...)}
	services["plain"] = service{ips: []string{"10.96.0.12"}, port: port("", 443), endpoints: []string{"10.244.0.6:9000"}}
	newWorld(t, services, o)
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
