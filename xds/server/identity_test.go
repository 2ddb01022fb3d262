package server_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/casecret"
	"github.com/mizzen-mesh/mizzen/internal/identity/authority"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
	"github.com/mizzen-mesh/mizzen/internal/spiffe"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

const controlPlane = "mizzen-controller.mizzen-system.svc"

// mesh is a control plane's CA, with a clock that is off by some time.
type mesh struct {
	*authority.Manager
	t   *testing.T
	off atomic.Int64
	key *ecdsa.PrivateKey
}

func newMesh(t *testing.T) *mesh {
	t.Helper()
	const trustDomain = "cluster.local"
	m := &mesh{t: t}
	id, err := spiffe.Of(trustDomain, "mizzen-system", "mizzen-controller")
	if err != nil {
		t.Fatal(err)
	}
	serving := authority.ServingLeaf(id, controlPlane)
	serving.Lifetime = time.Hour
	kubernetes := fake.NewClientBuilder().Build()
	m.Manager, err = authority.New(authority.Options{
		TrustDomain: trustDomain, Serving: serving, Agents: func(context.Context) authority.Agents { return authority.Agents{} },
		Options: casecret.Options{
			Namespace: "mizzen-system", SecretName: "mizzen-ca",
			Lifetimes: rotation.Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 24 * time.Hour, LeafLifetime: 30 * time.Minute},
			Client:    kubernetes, Reader: kubernetes,
			Owner:    func(context.Context) (metav1.OwnerReference, error) { return metav1.OwnerReference{}, nil },
			IsLeader: func() bool { return true },
			Recorder: events.NewFakeRecorder(100), Registerer: prometheus.NewRegistry(), Log: logr.Discard(),
			Now: func() time.Time { return time.Now().Add(time.Duration(m.off.Load())) },
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Reconcile(t.Context(), reconcile.Request{}); err != nil {
		t.Fatal(err)
	}
	if m.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		t.Fatal(err)
	}
	return m
}

// issue signs a leaf.
func (m *mesh) issue(l ca.Leaf) *tls.Certificate {
	m.t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		m.t.Fatal(err)
	}
	signed, err := m.Sign(l, csr)
	if err != nil {
		m.t.Fatal(err)
	}
	key, err := ca.EncodeKey(m.key)
	if err != nil {
		m.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(signed, key)
	if err != nil {
		m.t.Fatal(err)
	}
	return &cert
}

// leaf is that of a pod.
func leaf(t *testing.T, n node.Node, trustDomain string) ca.Leaf {
	t.Helper()
	id, err := spiffe.Of(trustDomain, n.Namespace, n.ServiceAccount)
	if err != nil {
		t.Fatal(err)
	}
	return authority.PodLeaf(id, n.Pod, n.UID)
}

// dial is how a sidecar connects: it trusts the mesh and shows its certificate, if it has one.
func (m *mesh) dial(cert *tls.Certificate, change func(*tls.Config)) grpc.DialOption {
	bundle, _, _ := m.Bundle()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM([]byte(bundle))
	c := &tls.Config{RootCAs: roots, ServerName: controlPlane, MinVersion: tls.VersionTLS12}
	if cert != nil {
		// Whatever CAs the server asks for.
		c.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil }
	}
	if change != nil {
		change(c)
	}
	return grpc.WithTransportCredentials(credentials.NewTLS(c))
}

func startTLS(t *testing.T, m *mesh) *control {
	t.Helper()
	c := startWith(t, server.Options{TLS: m.TLS(true), Identify: m.Identify})
	c.set(t, cluster("base", ""))
	return c
}

var shopOne = node.Node{Namespace: "shop", Pod: "one", UID: "0f2f6a1c", ServiceAccount: "web", NodeName: "n1", Version: "test"}

func TestStreamOfTheCertificatesPod(t *testing.T) {
	m := newMesh(t)
	c := startTLS(t, m)
	p := c.connect(t, shopOne.Proto(), m.dial(m.issue(leaf(t, shopOne, "cluster.local")), nil))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base")
	if n := c.total(t, "mizzen_xds_refused_streams_total", ""); n != 0 {
		t.Errorf("%v refusals", n)
	}

	// A connection may outlive its certificate, but has no new stream then.
	m.off.Store(int64(2 * time.Hour))
	again, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.conn).DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := again.Send(&discoveryv3.DeltaDiscoveryRequest{Node: shopOne.Proto(), TypeUrl: envoy.ClusterType}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Recv(); status.Code(err) != codes.PermissionDenied || !strings.Contains(err.Error(), "expired") {
		t.Errorf("a new stream with an expired certificate: %v", err)
	}
}

// A connection does not outlive its certificate. One with a certificate that lives on is not touched.
func TestConnectionEndsWithItsCertificate(t *testing.T) {
	m := newMesh(t)
	m.off.Store(int64(-30*time.Minute + 2*time.Second))
	short := m.issue(leaf(t, shopOne, "cluster.local"))
	m.off.Store(0)
	long := m.issue(leaf(t, shopOne, "cluster.local"))
	c := startTLS(t, m)
	stays := c.connect(t, shopOne.Proto(), m.dial(long, nil))
	stays.subscribe(envoy.ClusterType)
	stays.take(envoy.ClusterType, "base")
	ends := c.connect(t, shopOne.Proto(), m.dial(short, nil))
	ends.subscribe(envoy.ClusterType)
	ends.take(envoy.ClusterType, "base")
	if code := ends.ended(); code != codes.Unavailable {
		t.Errorf("%v, want Unavailable", ends.err)
	}
	if time.Now().Before(short.Leaf.NotAfter) {
		t.Error("it ended before its certificate did")
	}
	if n := c.total(t, "mizzen_xds_refused_streams_total", "expired"); n != 1 {
		t.Errorf("%v counted as expired, want 1", n)
	}
	c.set(t, cluster("more", ""))
	stays.take(envoy.ClusterType, "more")
}

// One pod cannot take the streams of all, from however many connections. Those that end make room.
func TestStreamsOfOnePod(t *testing.T) {
	m := newMesh(t)
	c := startTLS(t, m)
	own := m.issue(leaf(t, shopOne, "cluster.local"))
	connect := func() *proxy {
		p := c.connect(t, shopOne.Proto(), m.dial(own, nil))
		p.subscribe(envoy.ClusterType)
		return p
	}
	var first *proxy
	for i := range server.StreamsPerPod {
		p := connect()
		p.take(envoy.ClusterType, "base")
		if i == 0 {
			first = p
		}
	}
	if code := connect().ended(); code != codes.ResourceExhausted {
		t.Errorf("one too many ended with %v", code)
	}
	if n := c.total(t, "mizzen_xds_refused_streams_total", "streams"); n != 1 {
		t.Errorf("%v refusals counted, want 1", n)
	}
	shopTwo := shopOne
	shopTwo.Pod, shopTwo.UID = "two", "1a2b"
	other := c.connect(t, shopTwo.Proto(), m.dial(m.issue(leaf(t, shopTwo, "cluster.local")), nil))
	other.subscribe(envoy.ClusterType)
	other.take(envoy.ClusterType, "base")
	first.close()
	await(t, "room for another stream", func() bool { return c.Entered() == server.StreamsPerPod })
	connect().take(envoy.ClusterType, "base")
}

// Whoever has a certificate of the mesh speaks for its pod only.
func TestStreamForAnotherPod(t *testing.T) {
	m := newMesh(t)
	other := func(change func(*node.Node)) *corev3.Node {
		n := shopOne
		change(&n)
		return n.Proto()
	}
	own := m.issue(leaf(t, shopOne, "cluster.local"))
	self, err := m.TLS(true).GetCertificate(nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		cert *tls.Certificate
		node *corev3.Node
		want string
	}{
		"another pod":                {own, other(func(n *node.Node) { n.Pod = "two" }), `node.id: "shop/two": want "shop/one", which the client's certificate names (a sidecar may request configuration for its own pod only)`},
		"another namespace":          {own, other(func(n *node.Node) { n.Namespace = "bank" }), `node.id: "bank/one": want "shop/one"`},
		"another service account":    {own, other(func(n *node.Node) { n.ServiceAccount = "admin" }), `node.cluster: "shop/admin": want "shop/web"`},
		"a pod of before":            {own, other(func(n *node.Node) { n.UID = "old" }), `node.metadata.uid: "old": want "0f2f6a1c"`},
		"another trust domain":       {m.issue(leaf(t, shopOne, "evil")), shopOne.Proto(), `unknown trust domain, want "cluster.local" (if the mesh's has been changed, make the pod anew)`},
		"the control plane's own":    {self, shopOne.Proto(), "names no pod"},
		"a pod without a UID":        {m.issue(leaf(t, node.Node{Namespace: "shop", Pod: "one", ServiceAccount: "web"}, "cluster.local")), other(func(n *node.Node) { n.UID = "" }), "names no pod"},
		"a subject of another place": {m.issue(func() ca.Leaf { l := leaf(t, shopOne, "cluster.local"); l.CommonName = "bank/one"; return l }()), other(func(n *node.Node) { n.Namespace = "bank" }), "names no pod"},
	} {
		t.Run(name, func(t *testing.T) {
			told, logged := make(chan node.Identity, 1), make(chan string, 10)
			c := startWith(t, server.Options{
				TLS: m.TLS(true), Identify: m.Identify, Refused: func(id node.Identity, _ error) { told <- id },
				Log: funcr.New(func(_, args string) { logged <- args }, funcr.Options{}),
			})
			c.set(t, cluster("base", ""))
			p := c.connect(t, tt.node, m.dial(tt.cert, nil))
			p.subscribe(envoy.ClusterType)
			if code := p.ended(); code != codes.PermissionDenied || !strings.Contains(p.err.Error(), tt.want) {
				t.Errorf("%v, want PermissionDenied: %s", p.err, tt.want)
			}
			if n := c.total(t, "mizzen_xds_refused_streams_total", "identity"); n != 1 {
				t.Errorf("%v refusals counted, want 1", n)
			}
			if line := <-logged; !strings.Contains(line, strings.Trim(strconv.Quote(tt.want), `"`)) || !strings.Contains(line, `"reason"="identity"`) || !strings.Contains(line, "127.0.0.1") {
				t.Errorf("log %s", line)
			}
			named := tt.cert == own || name == "another trust domain"
			if named != (len(told) == 1) || named && (<-told).Pod != "one" {
				t.Error("not told of the certificate's pod")
			}
		})
	}
}

// Whoever has none does not get as far as a request.
func TestConnectionWithoutACertificateOfTheMesh(t *testing.T) {
	m, foreign := newMesh(t), newMesh(t)
	good := m.issue(leaf(t, shopOne, "cluster.local"))
	m.off.Store(int64(-45 * time.Minute))
	expired := m.issue(leaf(t, shopOne, "cluster.local"))
	m.off.Store(0)
	serverOnly := leaf(t, shopOne, "cluster.local")
	serverOnly.Usages = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}
	stolen := *good // the certificate without its key
	stolen.PrivateKey = foreign.key
	for name, dial := range map[string]grpc.DialOption{
		"none":                        m.dial(nil, nil),
		"of a foreign CA":             m.dial(foreign.issue(leaf(t, shopOne, "cluster.local")), nil),
		"expired":                     m.dial(expired, nil),
		"for servers only":            m.dial(m.issue(serverOnly), nil),
		"somebody's, without its key": m.dial(&stolen, nil),
		"over TLS 1.2":                m.dial(good, func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 }),
		"in plain text":               grpc.EmptyDialOption{},
	} {
		t.Run(name, func(t *testing.T) {
			logged := make(chan string, 100)
			c := startWith(t, server.Options{
				TLS: m.TLS(true), Identify: m.Identify, Log: funcr.New(func(_, args string) { logged <- args }, funcr.Options{}),
			})
			conn, err := grpc.NewClient(c.addr, grpc.WithTransportCredentials(insecure.NewCredentials()), dial)
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
			if err == nil {
				_ = stream.Send(&discoveryv3.DeltaDiscoveryRequest{Node: shopOne.Proto(), TypeUrl: envoy.ClusterType}) // Recv tells why
				_, err = stream.Recv()
			}
			if status.Code(err) != codes.Unavailable {
				t.Errorf("%v, want Unavailable", err)
			}
			await(t, "the refusal is counted", func() bool { return c.total(t, "mizzen_xds_refused_streams_total", "certificate") >= 1 })
			if line := <-logged; !strings.Contains(line, "refused an ADS connection") || !strings.Contains(line, "its agent's log says why") {
				t.Errorf("log %s", line)
			}
			if len(c.Proxies()) > 0 {
				t.Error("it has a stream")
			}
		})
	}
}

// The server's certificate is chosen for each handshake, so that a new CA takes effect without a restart.
func TestServerCertificate(t *testing.T) {
	m := newMesh(t)
	c := startTLS(t, m)
	cert := m.issue(leaf(t, shopOne, "cluster.local"))
	serial := func() string {
		conn, err := tls.Dial("tcp", c.addr, func() *tls.Config {
			bundle, _, _ := m.Bundle()
			roots := x509.NewCertPool()
			roots.AppendCertsFromPEM([]byte(bundle))
			return &tls.Config{RootCAs: roots, ServerName: controlPlane, Certificates: []tls.Certificate{*cert}, NextProtos: []string{"h2"}, Time: func() time.Time { return time.Now().Add(time.Duration(m.off.Load())) }}
		}())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		leaf := conn.ConnectionState().PeerCertificates[0]
		if id, err := spiffe.FromCertificate(leaf); err != nil || id.ServiceAccount != "mizzen-controller" {
			t.Errorf("%v, %v", id, err)
		}
		return leaf.SerialNumber.String()
	}
	first := serial()
	if second := serial(); second != first {
		t.Error("each connection has a certificate of its own")
	}
	m.off.Store(int64(31 * time.Minute))
	if second := serial(); second == first {
		t.Error("the certificate is not renewed at half of its life")
	}
}
