package xds_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	metricsv3 "github.com/envoyproxy/go-control-plane/envoy/config/metrics/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/agent/bootstraptest"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestEnvoyAgreesWithTheSimulator: the real Envoy answers each request by the rule that mesh.Route
// finds. The rules have no backends, so the answer is 500 and its body names the rule.
func TestEnvoyAgreesWithTheSimulator(t *testing.T) {
	all := &routev3.RouteConfiguration{Name: "all"}
	var sets []*routeSet
	var rules [][]mesh.Rule
	for seed := range uint64(80) {
		set := randomRoutes(seed + 1000)
		sets, rules = append(sets, set), append(rules, set.rules(t))
		host := virtualHost(t, rules[seed])
		host.Name, host.Domains = fmt.Sprintf("set-%d", seed), []string{fmt.Sprintf("set-%d", seed)}
		all.VirtualHosts = append(all.VirtualHosts, host)
	}
	address := startEnvoy(t, all)
	for seed, set := range sets {
		for range 25 {
			request := set.request()
			want := "mizzen: no rule of the routes of Service shop/cart, port 80, matches\n"
			if r := mesh.Route(rules[seed], request); r != nil {
				want = fmt.Sprintf("mizzen: %s: %s\n", r.Origin, r.Action.FailReason)
			}
			if _, got := send(t, address, fmt.Sprintf("set-%d", seed), request); got != want {
				t.Fatalf("set %d, %+v:\nEnvoy %smesh  %s", seed, request, got, want)
			}
		}
	}
}

// virtualHost is what a Service port with these rules gives.
func virtualHost(t *testing.T, rules []mesh.Rule) *routev3.VirtualHost {
	t.Helper()
	svc := service(parent.Name)
	for _, r := range envoy.ServiceResources(svc, map[uint16]mesh.PortRules{80: {Producer: rules}}, configtest.WithoutIdentity()) {
		if rc, ok := r.Message.(*routev3.RouteConfiguration); ok {
			return proto.Clone(rc.VirtualHosts[0]).(*routev3.VirtualHost)
		}
	}
	t.Fatal("no route configuration")
	return nil
}

// service is a Service of namespace "shop" with port 80 in IPv4.
func service(name string) *mesh.Service {
	return &mesh.Service{
		Key:        mesh.Key{Namespace: parent.Namespace, Name: name},
		ClusterIPs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}, Ports: []mesh.Port{{Number: 80, Protocol: mesh.HTTP}},
	}
}

func send(t *testing.T, address, host string, r mesh.Request) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), r.Method, "http://"+address+r.Path, nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Host = host
	for name, values := range r.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, string(body)
}

// startEnvoy runs the real Envoy with these routes and clusters, and gives its address.
func startEnvoy(t *testing.T, routes *routev3.RouteConfiguration, clusters ...*clusterv3.Cluster) string {
	t.Helper()
	routes = proto.Clone(routes).(*routev3.RouteConfiguration)
	routes.ValidateClusters = wrapperspb.Bool(false) // as for routes that come over RDS
	return startListener(t, func(port uint32) *listenerv3.Listener { return holdingRoutes(t, port, routes) }, clusters...)
}

// startListener runs the real Envoy with the listener that is given for a free port.
func startListener(t *testing.T, listener func(port uint32) *listenerv3.Listener, clusters ...*clusterv3.Cluster) string {
	t.Helper()
	return runListener(t, listener, clusters...).address
}

// running is an Envoy of a test.
type running struct {
	address, admin string
	log            lockedBuffer
}

// lockedBuffer is written by one goroutine and read by another.
type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// reserved is an address of loopback on which nobody listens and which nobody else is given while the test runs; Envoy
// may listen there, for it sets SO_REUSEPORT.
func reserved(t *testing.T) netip.AddrPort {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(socket) })
	if err := unix.SetsockoptInt(socket, unix.SOL_SOCKET, unix.SO_REUSEPORT, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(socket, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	v4 := name.(*unix.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(v4.Addr), uint16(v4.Port))
}

func runListener(t *testing.T, listener func(port uint32) *listenerv3.Listener, clusters ...*clusterv3.Cluster) *running {
	t.Helper()
	path, dir := envoytest.Path(t), t.TempDir()
	address := reserved(t)
	e := &running{address: address.String(), admin: filepath.Join(dir, "admin")}
	json, err := protojson.Marshal(&bootstrapv3.Bootstrap{
		Node:           &corev3.Node{Id: "test", Cluster: "test"},
		LayeredRuntime: runtimeLayer(t),
		StatsConfig:    sidecarStats(t),
		Admin:          &bootstrapv3.Admin{Address: &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: e.admin}}}},
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{
			Listeners: []*listenerv3.Listener{listener(uint32(address.Port()))},
			Clusters:  clusters,
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, json, 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, path, "-c", file, "-l", "warning", "--concurrency", "1", "--use-dynamic-base-id", "--file-flush-interval-msec", "10")
	cmd.Stdout, cmd.Stderr = &e.log, &e.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	for {
		if conn, err := net.Dial("tcp", e.address); err == nil {
			conn.Close()
			return e
		}
		select {
		case <-ended:
			t.Fatalf("Envoy ended:\n%s", e.log.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// sidecarStats are the statistics that a sidecar keeps.
func sidecarStats(t *testing.T) *metricsv3.StatsConfig {
	t.Helper()
	return sidecarBootstrap(t).StatsConfig
}

func sidecarBootstrap(t *testing.T) *bootstrapv3.Bootstrap {
	t.Helper()
	s := agent.Defaults()
	s.ControlPlane, s.LogAnswers = "127.0.0.1:1", true
	b, err := bootstraptest.Read(agent.Bootstrap(s))
	if err != nil {
		t.Fatal(err)
	}
	return b
}
