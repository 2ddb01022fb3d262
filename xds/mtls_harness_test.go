package xds_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/sdstest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const trustDomain = "cluster.local"

var (
	idClient = mesh.SPIFFEID(trustDomain, "shop", "client")
	idCart   = mesh.SPIFFEID(trustDomain, "shop", "cart")
	idOther  = mesh.SPIFFEID(trustDomain, "shop", "other")
)

func newCA(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := sdstest.NewCA()
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func issue(t *testing.T, a *ca.Authority, id string, ago, lifetime time.Duration) *tls.Certificate {
	t.Helper()
	cert, err := sdstest.Issue(a, id, ago, lifetime)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// secrets is the agent of one sidecar.
type secrets struct {
	t       *testing.T
	server  *sdstest.Server
	address netip.AddrPort
	// plain are the callers in plain text that the sidecar has told of.
	plain   *plaintext.Callers
	metrics *prometheus.Registry
	stop    context.CancelFunc
}

// startSecrets serves the certificate of an identity, and a bundle with the root that signed it. others are what else
// Envoy asks there.
func startSecrets(t *testing.T, a *ca.Authority, id string, others ...func(grpc.ServiceRegistrar)) *secrets {
	t.Helper()
	server, err := sdstest.New(a, id)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	metrics := prometheus.NewRegistry()
	plain := plaintext.New(plaintext.Options{Registerer: metrics})
	go server.Serve(ctx, l, append(others, plain.Register)...)
	return &secrets{t: t, server: server, address: l.Addr().(*net.TCPAddr).AddrPort(), plain: plain, metrics: metrics, stop: cancel}
}

func (s *secrets) certificate(c *tls.Certificate) {
	s.t.Helper()
	if err := s.server.Certificate(c); err != nil {
		s.t.Fatal(err)
	}
}

func (s *secrets) bundle(roots ...*ca.Authority) {
	s.t.Helper()
	if err := s.server.Bundle(roots...); err != nil {
		s.t.Fatal(err)
	}
}

// taken waits until Envoy has the newest of a secret.
func (s *secrets) taken(name string) {
	s.t.Helper()
	eventually(s.t, "Envoy takes secret "+name, func() bool { return s.server.Taken(name) })
}

// cluster is the one of the bootstrap.
func (s *secrets) cluster() *clusterv3.Cluster {
	s.t.Helper()
	c, err := sdstest.Cluster(socketAt(s.address.Addr().String(), uint32(s.address.Port())))
	if err != nil {
		s.t.Fatal(err)
	}
	return c
}

func staticCluster(name string, address netip.AddrPort) *clusterv3.Cluster {
	return &clusterv3.Cluster{
		Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{
				Address: socketAt(address.Addr().String(), uint32(address.Port())),
			}}}},
		}}},
	}
}

func socketAt(ip string, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: ip, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func secureConfig() *config.Mesh {
	cfg := config.Default()
	cfg.MTLS.TrustDomain = trustDomain
	return cfg
}

// called is a pod: an application behind a sidecar with the inbound listener, and a tap before it that notes
// what comes over the wire. The listener's port stands for the application's.
type called struct {
	*secrets
	// inbound is the sidecar itself, wire is the tap before it.
	inbound, wire netip.AddrPort
	tap           *wiretap
	envoy         *running
}

// inboundClusters are those of a sidecar, with the application in place of the original destination.
func inboundClusters(app netip.AddrPort) []*clusterv3.Cluster {
	var out []*clusterv3.Cluster
	for _, r := range envoy.BaseClusters(secureConfig()) {
		c := proto.Clone(r.Message).(*clusterv3.Cluster)
		c.ClusterDiscoveryType, c.LbPolicy = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}, clusterv3.Cluster_ROUND_ROBIN
		c.LoadAssignment = staticCluster(r.Name, app).LoadAssignment
		out = append(out, c)
	}
	return out
}

// inboundOf gives what a pod takes whose port has this mode.
type inboundOf func(port uint16) mesh.Inbound

func all(mode config.MTLSMode) inboundOf {
	return func(uint16) mesh.Inbound { return mesh.Inbound{Mode: mode} }
}

func startCalled(t *testing.T, a *ca.Authority, id string, in inboundOf, app netip.AddrPort, changes ...func(*secrets)) *called {
	t.Helper()
	c := &called{secrets: startSecrets(t, a, id)}
	for _, change := range changes {
		change(c.secrets)
	}
	c.envoy = runListener(t, func(port uint32) *listenerv3.Listener {
		l := proto.Clone(envoy.SecureInboundListeners(in(uint16(port)), secureConfig())[0].Message).(*listenerv3.Listener)
		l.Address = socketAt("127.0.0.1", port)
		l.ListenerFilters = l.ListenerFilters[1:] // nobody has redirected the connection
		return l
	}, append(inboundClusters(app), c.cluster())...)
	c.inbound = netip.MustParseAddrPort(c.envoy.address)
	c.tap = startTap(t, c.inbound)
	c.wire = c.tap.address
	return c
}

// calling is Service cart behind the sidecar of a client.
func calling(t *testing.T, s *secrets, identities ...string) *fleet {
	t.Helper()
	svc := service("cart")
	svc.Identities = identities
	f := newFleet(t, svc)
	f.cfg, f.identities = secureConfig(), map[netip.AddrPort]string{}
	f.clusters = append(f.clusters, s.cluster())
	return f
}

// wiretap passes bytes on and notes them.
type wiretap struct {
	address netip.AddrPort
	mu      sync.Mutex
	said    [2]bytes.Buffer // by the client and by the server
	opened  int
}

func startTap(t *testing.T, to netip.AddrPort) *wiretap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	w := &wiretap{address: l.Addr().(*net.TCPAddr).AddrPort()}
	go func() {
		for {
			down, err := l.Accept()
			if err != nil {
				return
			}
			up, err := net.Dial("tcp", to.String())
			if err != nil {
				down.Close()
				continue
			}
			w.mu.Lock()
			w.opened++
			w.mu.Unlock()
			go w.pass(down, up, 0)
			go w.pass(up, down, 1)
		}
	}()
	return w
}

func (w *wiretap) pass(from, to net.Conn, side int) {
	defer to.Close()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		w.mu.Lock()
		w.said[side].Write(b[:n])
		w.mu.Unlock()
		if _, werr := to.Write(b[:n]); err != nil || werr != nil {
			return
		}
	}
}

// heard gives what client and server have said.
func (w *wiretap) heard() (client, server string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.said[0].String(), w.said[1].String()
}

// connections have been made so far.
func (w *wiretap) connections() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.opened
}

// isTLS13 checks that the wire has shown TLS 1.3 and nothing of the text.
func (w *wiretap) isTLS13(t *testing.T, text string) {
	t.Helper()
	client, server := w.heard()
	if !strings.HasPrefix(client, "\x16\x03") || !strings.HasPrefix(server, "\x16\x03") || len(server) < 5 {
		t.Fatalf("no TLS: client %.20q, server %.20q", client, server)
	}
	// The first record is the server's hello with the version that it has chosen:
	// https://www.rfc-editor.org/rfc/rfc8446#section-4.2.1
	hello := server[:min(len(server), 5+int(binary.BigEndian.Uint16([]byte(server[3:5]))))]
	if !strings.Contains(hello, "\x00\x2b\x00\x02\x03\x04") {
		t.Errorf("not TLS 1.3: %q", hello)
	}
	if strings.Contains(client+server, text) {
		t.Errorf("plain text: %q", text)
	}
}

// serveBytes runs an application that gets each connection.
func serveBytes(t *testing.T, app func(net.Conn)) netip.AddrPort {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { defer conn.Close(); app(conn) }()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// greet speaks first, then says again what it hears.
func greet(conn net.Conn) {
	_, _ = io.WriteString(conn, "welcome\n")
	_, _ = io.Copy(conn, conn)
}

func echo(conn net.Conn) { _, _ = io.Copy(conn, conn) }

// dial gives a connection that fails after 10 s.
func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	return conn
}
