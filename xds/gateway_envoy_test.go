package xds_test

import (
	"bufio"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"github.com/go-logr/logr"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/types/known/anypb"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/config/configtest"
	"github.com/mizzen-mesh/mizzen/internal/envoytest"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// pair is a certificate that signs itself, and its key, in PEM.
func pair(t *testing.T, names ...string) (chain, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return pairOf(t, k, names...)
}

func pairOf(t *testing.T, k crypto.Signer, names ...string) (chain, key []byte) {
	t.Helper()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), DNSNames: names, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, k.Public(), k)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert}), pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})
}

var shopEdge = mesh.Gateway{Key: mesh.Key{Namespace: "shop", Name: "edge"}, ServiceAccount: "edge-mizzen"}

// backendOf is a Service of the namespace "shop" that gateways send to, with port 80.
func backendOf(name string) *mesh.Service {
	svc := service(name)
	svc.Gateways, svc.Headless = true, []mesh.Family{mesh.IPv4}
	return svc
}

func targetOf(name string) mesh.Target {
	return mesh.Target{Service: mesh.Key{Namespace: "shop", Name: name}, Port: 80, Families: []mesh.Family{mesh.IPv4}}
}

func to(name string) *mesh.Action {
	return &mesh.Action{Backends: []mesh.Backend{{Target: targetOf(name), Weight: 1, Valid: true}}}
}

// under is a rule for the paths under a prefix.
func under(prefix string, a *mesh.Action) mesh.Rule {
	return mesh.Rule{
		Origin: mesh.Origin{Route: mesh.ID{Kind: mesh.KindHTTPRoute, Key: mesh.Key{Namespace: "shop", Name: "route"}}},
		Match:  mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: prefix}}, Action: a,
	}
}

func hosts(names ...string) []mesh.VirtualHost {
	var out []mesh.VirtualHost
	for i := 0; i < len(names); i += 2 {
		h := mesh.VirtualHost{Name: names[i]}
		if names[i+1] != "" {
			h.Rules = []mesh.Rule{under("/", to(names[i+1]))}
		}
		out = append(out, h)
	}
	return out
}

// gatewayOf is a control plane with Services and a Gateway, whose Envoy runs.
type gatewayOf struct {
	t     *testing.T
	store *server.Store
	cfg   *config.Mesh
	log   *lockedBuffer
	// all resources that were set.
	all []envoy.Resource
}

// validate lets Envoy check the resources as static ones, too.
func (g *gatewayOf) validate() {
	g.t.Helper()
	validate(g.t, g.all)
}

func (g *gatewayOf) set(resources ...envoy.Resource) {
	g.t.Helper()
	g.all = append(g.all, resources...)
	if err := envoy.Check(resources); err != nil {
		g.t.Fatal(err)
	}
	if _, err := g.store.Apply(envoy.Change{Set: resources}); err != nil {
		g.t.Fatal(err)
	}
}

// service publishes a Service with endpoints at its port 80.
func (g *gatewayOf) service(svc *mesh.Service, addresses ...netip.AddrPort) {
	g.t.Helper()
	g.set(envoy.GatewayClusters(svc, g.cfg)...)
	var endpoints []mesh.Endpoint
	for _, a := range addresses {
		endpoints = append(endpoints, mesh.Endpoint{Addr: a})
	}
	for _, udp := range []bool{false, true} {
		key := mesh.EndpointsKey{Service: svc.Key, Port: 80, Family: mesh.IPv4, UDP: udp}
		g.set(envoy.EndpointResources(svc, key, endpoints)...)
	}
}

// startGateway runs Envoy with what a control plane publishes, and waits until it listens.
func startGateway(t *testing.T, gw mesh.Gateway, publish func(*gatewayOf)) *gatewayOf {
	t.Helper()
	path, dir := envoytest.Path(t), t.TempDir()
	g := &gatewayOf{t: t, store: server.NewStore(), cfg: configtest.WithoutIdentity(), log: &lockedBuffer{}}
	publish(g)
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	served := make(chan struct{})
	s := server.New(server.Options{Store: g.store, Log: logr.Discard(), Classes: true})
	go func() { _ = s.Serve(ctx, l); close(served) }()
	ads := staticCluster("ads", netip.MustParseAddrPort(l.Addr().String()))
	ads.TypedExtensionProtocolOptions = map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": pack(t, &upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
			ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
		}},
	})}
	source := &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}, ResourceApiVersion: corev3.ApiVersion_V3}
	json, err := protojson.Marshal(&bootstrapv3.Bootstrap{
		Node:            node.Node{Namespace: gw.Namespace, Pod: "edge-1", ServiceAccount: gw.ServiceAccount, Gateway: true, IPs: []netip.Addr{netip.MustParseAddr("10.1.1.1")}}.Proto(),
		StaticResources: &bootstrapv3.Bootstrap_StaticResources{Clusters: []*clusterv3.Cluster{ads}},
		DynamicResources: &bootstrapv3.Bootstrap_DynamicResources{CdsConfig: source, LdsConfig: source, AdsConfig: &corev3.ApiConfigSource{
			ApiType: corev3.ApiConfigSource_DELTA_GRPC, TransportApiVersion: corev3.ApiVersion_V3,
			GrpcServices: []*corev3.GrpcService{{TargetSpecifier: &corev3.GrpcService_EnvoyGrpc_{EnvoyGrpc: &corev3.GrpcService_EnvoyGrpc{ClusterName: "ads"}}}},
		}},
		LayeredRuntime: runtimeLayer(t),
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "bootstrap.json")
	if err := os.WriteFile(file, json, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, path, "-c", file, "-l", "warning", "--concurrency", "1", "--use-dynamic-base-id")
	cmd.Stdout, cmd.Stderr = g.log, g.log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }()
	t.Cleanup(func() {
		cancel()
		<-ended
		<-served
		if t.Failed() {
			t.Log(g.log.String())
		}
	})
	for _, s := range gw.Sockets {
		if s.UDP {
			continue
		}
		eventually(t, fmt.Sprintf("Envoy listens on %d", s.Bind), func() bool {
			conn, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Bind))
			if err != nil {
				return false
			}
			conn.Close()
			return true
		})
	}
	return g
}

// backendNamed serves HTTP, HTTP/2 in plain text too, and answers with its name and what it got.
func backendNamed(t *testing.T, name string) netip.AddrPort {
	t.Helper()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("server", "own")
		for _, h := range []string{"X-Forwarded-For", "X-Forwarded-Proto", "X-Mizzen-Destination", "X-Forwarded-Client-Cert", "X-Request-Id", "X-Envoy-Max-Retries", "X-Envoy-External-Address", "Referer"} {
			if v := r.Header.Get(h); v != "" {
				w.Header().Set("Got-"+h, v)
			}
		}
		fmt.Fprintf(w, "%s %s %s", name, r.Proto, r.URL.Path)
	}))
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// ask sends a request and returns the answer and its body; TLS for a server name.
func ask(t *testing.T, socket mesh.Socket, sni, method, host, path string, headers ...string) (*http.Response, string) {
	t.Helper()
	scheme, transport := "http", &http.Transport{DisableKeepAlives: true}
	if sni != "" {
		scheme = "https"
		transport.TLSClientConfig = &tls.Config{ServerName: strings.TrimPrefix(sni, "-"), InsecureSkipVerify: true} //nolint:gosec // the test looks at routes
	}
	r, err := http.NewRequestWithContext(t.Context(), method, fmt.Sprintf("%s://127.0.0.1:%d%s", scheme, socket.Bind, path), nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	for i := 0; i < len(headers); i += 2 {
		r.Header.Set(headers[i], headers[i+1])
	}
	res, err := transport.RoundTrip(r)
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

// A gateway's Envoy routes requests by host name and rule, and tells strangers little.
func TestGatewayRequests(t *testing.T) {
	socket := mesh.Socket{Port: 80, Bind: reserved(t).Port(), Listeners: []mesh.Listener{
		{Name: "all", Protocol: gatewayv1.HTTPProtocolType, Hosts: []mesh.VirtualHost{
			{Rules: []mesh.Rule{
				under("/session", &mesh.Action{Backends: []mesh.Backend{{Target: targetOf("one"), Weight: 1, Valid: true, Session: &mesh.Session{Name: "s"}}}}),
				under("/mirror", &mesh.Action{Backends: to("one").Backends, Mirrors: []mesh.Mirror{{Target: targetOf("copy"), PerMillion: 1_000_000}}}),
				under("/auth", &mesh.Action{Backends: to("one").Backends, Auth: &mesh.ExternalAuth{Target: targetOf("auth"), Path: "/check"}}),
				under("/redirect", &mesh.Action{Redirect: &mesh.Redirect{Scheme: "https", Status: 301}}),
				under("/fail", &mesh.Action{Fail: 500, FailReason: "no backend"}),
				under("/h2", &mesh.Action{Backends: []mesh.Backend{{Target: func() mesh.Target { t := targetOf("two"); t.HTTP2 = true; return t }(), Weight: 1, Valid: true}}}),
				under("/", to("one")),
			}},
			{Name: "two.com", Rules: []mesh.Rule{under("/two", to("two"))}},
		}},
		{Name: "own", Protocol: gatewayv1.HTTPProtocolType, Hostname: "own.com", Hosts: hosts("own.com", "")},
	}}
	gw := shopEdge
	gw.Sockets = []mesh.Socket{socket}
	auth := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, "/check/auth") || r.Header.Get("authorization") != "yes" {
			w.WriteHeader(http.StatusForbidden)
		}
	}))
	t.Cleanup(auth.Close)
	copies := make(chan string, 10)
	mirror := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { copies <- r.Host + r.URL.Path }))
	t.Cleanup(mirror.Close)
	g := startGateway(t, gw, func(g *gatewayOf) {
		g.service(backendOf("one"), backendNamed(t, "one"))
		g.service(backendOf("two"), backendNamed(t, "two"))
		g.service(backendOf("copy"), netip.MustParseAddrPort(mirror.Listener.Addr().String()))
		g.service(backendOf("auth"), netip.MustParseAddrPort(auth.Listener.Addr().String()))
	})
	g.validate()
	for _, test := range []struct {
		host, path string
		status     int
		body       string
		headers    []string
	}{
		{"any.com", "/x", 200, "one HTTP/1.1 /x", nil},
		{"any.com:80", "/x/../y", 200, "one HTTP/1.1 /y", nil},
		{"two.com", "/two", 200, "two HTTP/1.1 /two", nil},
		{"two.com", "/other", 200, "one HTTP/1.1 /other", nil}, // a less specific virtual host
		{"own.com", "/x", 404, "", nil},                        // another listener
		{"any.com", "/fail", 500, "", nil},
		{"any.com", "/redirect", 301, "", nil},
		{"any.com", "/h2/x", 200, "two HTTP/2.0 /h2/x", nil},
		{"any.com", "/session", 200, "one HTTP/1.1 /session", nil},
		{"any.com", "/mirror", 200, "one HTTP/1.1 /mirror", nil},
		{"any.com", "/auth", 403, "", nil},
		{"any.com", "/auth", 200, "one HTTP/1.1 /auth", []string{"authorization", "yes"}},
	} {
		if res, body := ask(t, socket, "", "GET", test.host, test.path, test.headers...); res.StatusCode != test.status || body != test.body {
			t.Errorf("%s%s %q: got %d %q, want %d %q", test.host, test.path, test.headers, res.StatusCode, body, test.status, test.body)
		}
	}
	if got := <-copies; got != "any.com/mirror" {
		t.Errorf("the copy is %s", got)
	}
	res, _ := ask(t, socket, "", "GET", "any.com", "/session")
	if got := res.Header.Get("set-cookie"); !strings.HasPrefix(got, "s=") {
		t.Errorf("the session's cookie is %q", got)
	}
	res, _ = ask(t, socket, "", "GET", "any.com", "/", "x-mizzen-destination", "10.0.0.1:80", "x-forwarded-for", "9.9.9.9", "x-forwarded-client-cert", "URI=spiffe://x",
		"x-request-id", "stranger's", "x-envoy-max-retries", "9", "referer", "about:blank")
	for name, want := range map[string]string{
		"server": "own", "Got-X-Forwarded-Proto": "http", "Got-X-Mizzen-Destination": "",
		"Got-X-Forwarded-Client-Cert": "", "Got-X-Envoy-Max-Retries": "", "Got-Referer": "about:blank",
	} {
		if got := res.Header.Get(name); got != want {
			t.Errorf("header %s: got %q, want %q", name, got, want)
		}
	}
	if got := res.Header.Get("Got-X-Request-Id"); got == "" || got == "stranger's" {
		t.Errorf("x-request-id %q, want the gateway's", got)
	}
	// Envoy says its own address for a client on loopback.
	if got := res.Header.Get("Got-X-Forwarded-For"); !strings.HasPrefix(got, "9.9.9.9,") {
		t.Errorf("x-forwarded-for %q does not end with the client", got)
	}
	if res, _ = ask(t, socket, "", "GET", "any.com", "/redirect"); res.Header.Get("location") != "https://any.com/redirect" {
		t.Errorf("location %q", res.Header.Get("location"))
	}
}

// gatewayAnswering runs a gateway for "any.com" with these rules, and the Services one, two and auth.
func gatewayAnswering(t *testing.T, auth netip.AddrPort, rules ...mesh.Rule) (*gatewayOf, mesh.Gateway) {
	t.Helper()
	gw := shopEdge
	gw.Sockets = []mesh.Socket{{Port: 80, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{
		Name: "all", Protocol: gatewayv1.HTTPProtocolType, Hosts: []mesh.VirtualHost{{Rules: rules}},
	}}}}
	return startGateway(t, gw, func(g *gatewayOf) {
		g.service(backendOf("one"), backendNamed(t, "one"))
		g.service(backendOf("two"), backendNamed(t, "two"))
		g.service(backendOf("auth"), auth)
	}), gw
}

// Preflight requests are answered as the Gateway API's conformance test HTTPRouteCORS wants it. Envoy answers a wildcard with
// what the browser asks for.
func TestGatewayCORS(t *testing.T) {
	cors := func(c mesh.CORS) *mesh.Action { return &mesh.Action{Backends: to("one").Backends, CORS: &c} }
	every := []string{"*"}
	_, gw := gatewayAnswering(t, reserved(t),
		under("/any-with", cors(mesh.CORS{AnyOrigin: true, AllowMethods: every, AllowHeaders: every, AllowCredentials: true, MaxAge: 5 * time.Second})),
		under("/any", cors(mesh.CORS{AnyOrigin: true, AllowMethods: every, AllowHeaders: every})),
		under("/some", cors(mesh.CORS{AllowOrigins: []string{`https://www\.foo\.com`}, AllowMethods: []string{"GET", "OPTIONS"}, ExposeHeaders: []string{"x-a", "x-b"}})),
		under("/", to("one")),
	)
	const foo, bad = "https://www.foo.com", "https://www.bad.com"
	for _, test := range []struct {
		method, path, origin string
		// origins, methods, headers, credentials, age and exposed headers of the answer
		want string
	}{
		{"OPTIONS", "/any-with", foo, foo + "|PUT|x-a, x-b|true|5|"},
		{"OPTIONS", "/any", foo, foo + "|PUT|x-a, x-b|||"},
		{"OPTIONS", "/some", foo, foo + "|GET, OPTIONS||||x-a, x-b"},
		{"OPTIONS", "/some", bad, "|GET, OPTIONS||||"},
		{"GET", "/any-with", foo, foo + "|||true||"},
		{"GET", "/some", foo, foo + "|||||x-a, x-b"},
		{"GET", "/some", bad, "|||||"},
		{"OPTIONS", "/", foo, "|||||"},
	} {
		res, body := ask(t, gw.Sockets[0], "", test.method, "any.com", test.path,
			"origin", test.origin, "access-control-request-method", "PUT", "access-control-request-headers", "x-a, x-b")
		var got []string
		for _, h := range []string{"allow-origin", "allow-methods", "allow-headers", "allow-credentials", "max-age", "expose-headers"} {
			got = append(got, res.Header.Get("access-control-"+h))
		}
		if got := strings.Join(got, "|"); got != test.want || res.StatusCode != 200 {
			t.Errorf("%s %s from %s: got %d %s %q, want %s", test.method, test.path, test.origin, res.StatusCode, got, body, test.want)
		}
	}
}

// authorizer allows calls with the header "authorization: yes" over gRPC. It counts the headers that it gets.
type authorizer struct {
	authv3.UnimplementedAuthorizationServer
	headers atomic.Int64
}

func (a *authorizer) Check(_ context.Context, r *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	headers := r.Attributes.Request.Http.Headers
	a.headers.Store(int64(len(headers)))
	if headers["authorization"] == "yes" {
		return &authv3.CheckResponse{Status: &rpcstatus.Status{}}, nil
	}
	return &authv3.CheckResponse{Status: &rpcstatus.Status{Code: int32(codes.PermissionDenied)}}, nil
}

// A rule that begins to ask an authorization server never lets a request through that the server refuses, not even while the
// gateway takes the change.
func TestGatewayAuth(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	a, s := &authorizer{}, grpc.NewServer()
	authv3.RegisterAuthorizationServer(s, a)
	go func() { _ = s.Serve(l) }()
	t.Cleanup(s.Stop)
	g, gw := gatewayAnswering(t, netip.MustParseAddrPort(l.Addr().String()), under("/", to("one")))
	socket := gw.Sockets[0]
	rules := &gw.Sockets[0].Listeners[0].Hosts[0].Rules
	secret := &mesh.Action{Backends: to("two").Backends, Auth: &mesh.ExternalAuth{Target: targetOf("auth"), GRPC: true, RequestHeaders: []string{"authorization"}}}
	*rules = append([]mesh.Rule{under("/secret", secret)}, *rules...)
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	eventually(t, "the server is asked", func() bool {
		res, body := ask(t, socket, "", "GET", "any.com", "/secret")
		if strings.HasPrefix(body, "two") {
			t.Fatal("a request went through without authorization")
		}
		return res.StatusCode == http.StatusForbidden
	})
	if _, body := ask(t, socket, "", "GET", "any.com", "/secret", "authorization", "yes"); !strings.HasPrefix(body, "two") {
		t.Errorf("an authorized request: %q", body)
	}
	if n := a.headers.Load(); n != 1 {
		t.Errorf("the server got %d headers, want one", n)
	}
	if _, body := ask(t, socket, "", "GET", "any.com", "/"); !strings.HasPrefix(body, "one") {
		t.Errorf("a rule without authorization: %q", body)
	}
	s.Stop()
	if res, body := ask(t, socket, "", "GET", "any.com", "/secret", "authorization", "yes"); res.StatusCode != http.StatusForbidden {
		t.Errorf("without the server: %d %q", res.StatusCode, body)
	}
}

// A WebSocket goes through. A gRPC call that no rule matches is not implemented.
func TestGatewayUpgradesAndGRPC(t *testing.T) {
	app := serveBytes(t, func(conn net.Conn) {
		if r, err := http.ReadRequest(bufio.NewReader(conn)); err == nil && r.Header.Get("upgrade") == "websocket" {
			fmt.Fprint(conn, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\nhello")
			echo(conn)
		}
	})
	_, gw := gatewayAnswering(t, app, under("/ws", to("auth")))
	conn := dial(t, fmt.Sprintf("127.0.0.1:%d", gw.Sockets[0].Bind))
	fmt.Fprint(conn, "GET /ws HTTP/1.1\r\nHost: any.com\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: x\r\nSec-WebSocket-Version: 13\r\n\r\n")
	in := bufio.NewReader(conn)
	res, err := http.ReadResponse(in, nil)
	if err != nil || res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(res, err)
	}
	fmt.Fprint(conn, " world")
	b := make([]byte, len("hello world"))
	if _, err := io.ReadFull(in, b); err != nil || string(b) != "hello world" {
		t.Errorf("got %q %v", b, err)
	}
	res, _ = ask(t, gw.Sockets[0], "", "POST", "any.com", "/pay.Pay/Now", "content-type", "application/grpc")
	if status := res.Header.Get("grpc-status"); status != "12" {
		t.Errorf("a call without a rule: %d, grpc-status %q", res.StatusCode, status)
	}
}

// What a client's first line may be, and what it is answered.
func TestGatewayStrangers(t *testing.T) {
	_, gw := gatewayAnswering(t, reserved(t), under("/", to("one")))
	for text, want := range map[string]string{
		"GET / HTTP/1.0\r\n\r\n":                                                                             "HTTP/1.0 400 Bad Request",
		"GET / HTTP/1.0\r\nHost: any.com\r\n\r\n":                                                            "HTTP/1.0 200 OK",
		"CONNECT a.com:80 HTTP/1.1\r\nHost: a.com:80\r\n\r\n":                                                "HTTP/1.1 404 Not Found",
		"GET / HTTP/1.1\r\nHost: a.com\r\nUpgrade: h2c\r\nConnection: upgrade\r\n\r\n":                       "HTTP/1.1 200 OK",
		"GET / HTTP/1.1\r\nHost: a.com\r\n" + strings.Repeat("a: b\r\n", 101) + "\r\n":                       "HTTP/1.1 431 Request Header Fields Too Large",
		"GET / HTTP/1.1\r\nHost: a.com\r\na: " + strings.Repeat("b", 60<<10) + "\r\n\r\n":                    "HTTP/1.1 431 Request Header Fields Too Large",
		"POST / HTTP/1.1\r\nHost: a.com\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": "HTTP/1.1 400 Bad Request",
	} {
		conn := dial(t, fmt.Sprintf("127.0.0.1:%d", gw.Sockets[0].Bind))
		fmt.Fprint(conn, text)
		if line, _ := bufio.NewReader(conn).ReadString('\n'); strings.TrimSpace(line) != want {
			t.Errorf("%.80q: got %q, want %q", text, line, want)
		}
	}
}

// The table is that of the conformance test HTTPRouteHTTPSListenerDetectMisdirectedRequests.
func TestGatewayTLS(t *testing.T) {
	names := []string{"", "second-example.org", "*.wildcard.org", "fourth-example.wildcard.org"}
	socket := mesh.Socket{Port: 443, Bind: reserved(t).Port()}
	chain, key := pair(t, "example.org")
	backendChain, backendKey := pair(t, "backend.org")
	gw := shopEdge
	gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}, {Name: "gateway/ca", CAs: chain}}
	own := &mesh.ListenerTLS{Certificates: []string{"gateway/secret"}}
	for i, name := range names {
		l := mesh.Listener{Name: fmt.Sprint(i), Protocol: gatewayv1.HTTPSProtocolType, Hostname: name, TLS: own, Hosts: hosts(name, fmt.Sprint("s", i))}
		if i == 0 {
			l.Hosts = hosts("", "", "example.org", "s0")
		}
		socket.Listeners = append(socket.Listeners, l)
	}
	pass := mesh.Listener{Name: "pass", Protocol: gatewayv1.TLSProtocolType, Hostname: "*.pass.org", Connections: []mesh.Rule{{
		Match: mesh.Match{TLS: &mesh.TLSMatch{ServerName: "a.pass.org"}}, Action: to("tls"),
	}}}
	end := mesh.Listener{Name: "end", Protocol: gatewayv1.TLSProtocolType, Hostname: "end.org", TLS: own, Connections: []mesh.Rule{{
		Match: mesh.Match{TLS: &mesh.TLSMatch{ServerName: "end.org"}}, Action: to("s0"),
	}}}
	socket.Listeners = append(socket.Listeners, pass, end)
	client := mesh.Socket{Port: 8443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{
		{Name: "strict", Protocol: gatewayv1.HTTPSProtocolType, Hostname: "strict.org", TLS: &mesh.ListenerTLS{Certificates: own.Certificates, ClientCA: "gateway/ca"}, Hosts: hosts("strict.org", "s0")},
		{Name: "lax", Protocol: gatewayv1.HTTPSProtocolType, TLS: &mesh.ListenerTLS{
			Certificates: own.Certificates, ClientCA: "gateway/ca", AllowInvalidClient: true, MinVersion: "1.3",
		}, Hosts: hosts("", "secured")},
	}}
	gw.Sockets = []mesh.Socket{socket, client}
	cert, err := tls.X509KeyPair(backendChain, backendKey)
	if err != nil {
		t.Fatal(err)
	}
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "tls %s %s %d", r.TLS.ServerName, r.Proto, len(r.TLS.PeerCertificates))
	}))
	backend.TLS = &tls.Config{Certificates: []tls.Certificate{cert}, ClientAuth: tls.RequestClientCert} //nolint:gosec // default version
	backend.EnableHTTP2 = true
	backend.StartTLS()
	t.Cleanup(backend.Close)
	g := startGateway(t, gw, func(g *gatewayOf) {
		for i := range names {
			g.service(backendOf(fmt.Sprint("s", i)), backendNamed(t, fmt.Sprint("s", i)))
		}
		at := netip.MustParseAddrPort(backend.Listener.Addr().String())
		g.service(backendOf("tls"), at)
		secured := backendOf("secured")
		secured.BackendTLS = map[uint16]mesh.BackendTLS{80: {Hostname: "backend.org", CAs: backendChain}}
		secured.ClientCertificates = map[string]string{gw.Owner(): "gateway/secret"}
		g.service(secured, at)
	})
	g.validate()
	for _, test := range []struct {
		sni, host string
		status    int
		body      string
	}{
		{"example.org", "example.org", 200, "s0"},
		{"example.org", "second-example.org", 421, ""},
		{"example.org", "unknown-example.org", 404, ""},
		{"second-example.org", "second-example.org", 200, "s1"},
		{"second-example.org", "example.org", 421, ""},
		{"second-example.org", "unknown-example.org", 421, ""},
		{"third-example.wildcard.org", "third-example.wildcard.org", 200, "s2"},
		{"third-example.wildcard.org", "fith-example.wildcard.org", 200, "s2"},
		{"third-example.wildcard.org", "fourth-example.wildcard.org", 421, ""},
		{"third-example.wildcard.org", "second-example.org", 421, ""},
		{"third-example.wildcard.org", "unknown-example.org", 421, ""},
		{"fourth-example.wildcard.org", "fourth-example.wildcard.org", 200, "s3"},
		{"fourth-example.wildcard.org", "fith-example.wildcard.org", 421, ""},
		{"unknown-example.org", "example.org", 200, "s0"},
		{"unknown-example.org", "unknown-example.org", 404, ""},
		{"a.pass.org", "x.org", 200, "tls"},
		{"end.org", "x.org", 200, "s0"},
	} {
		if res, body := ask(t, socket, test.sni, "GET", test.host, "/"); res.StatusCode != test.status || !strings.HasPrefix(body, test.body) {
			t.Errorf("%s over %s: got %d %q, want %d %q", test.host, test.sni, res.StatusCode, body, test.status, test.body)
		}
	}
	handshake := func(s mesh.Socket, c *tls.Config) (string, error) {
		c.InsecureSkipVerify = true
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.Bind), c)
		if err != nil {
			return "", err
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: strict.org\r\nConnection: close\r\n\r\n")
		b, err := io.ReadAll(conn)
		return string(b), err
	}
	if out, err := handshake(socket, &tls.Config{ServerName: "b.pass.org"}); err == nil {
		t.Errorf("a name of a listener without a rule for it: %q", out)
	}
	if out, err := handshake(client, &tls.Config{ServerName: "strict.org"}); err == nil {
		t.Errorf("without a client certificate: %q", out)
	}
	mine, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := handshake(client, &tls.Config{ServerName: "strict.org", Certificates: []tls.Certificate{mine}}); err != nil || !strings.Contains(out, "s0 HTTP/1.1") {
		t.Errorf("with a client certificate: %q %v", out, err)
	}
	if _, body := ask(t, client, "lax.org", "GET", "lax.org", "/"); body != "tls backend.org HTTP/2.0 1" {
		t.Errorf("a client without a certificate where that is allowed, a backend with TLS: %q", body)
	}
	// Another certificate comes without another listener.
	rotated, rotatedKey := pair(t, "rotated.org")
	gw.Secrets[0].Chain, gw.Secrets[0].Key = rotated, rotatedKey
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	eventually(t, "the new certificate is used", func() bool {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", socket.Bind), &tls.Config{ServerName: "example.org", InsecureSkipVerify: true}) //nolint:gosec // the test looks at it
		if err != nil {
			return false
		}
		defer conn.Close()
		return slices.Contains(conn.ConnectionState().PeerCertificates[0].DNSNames, "rotated.org")
	})
}

// A Secret that is missing stops only what needs it, and comes into use when it is there.
func TestGatewayWithoutSecret(t *testing.T) {
	gw := shopEdge
	gw.Sockets = []mesh.Socket{
		{Port: 80, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{Name: "plain", Protocol: gatewayv1.HTTPProtocolType, Hosts: hosts("", "one")}}},
		{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{
			Name: "tls", Protocol: gatewayv1.HTTPSProtocolType, TLS: &mesh.ListenerTLS{Certificates: []string{"gateway/late"}}, Hosts: hosts("", "one"),
		}}},
	}
	g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
	if res, _ := ask(t, gw.Sockets[0], "", "GET", "any.com", "/"); res.StatusCode != http.StatusOK {
		t.Errorf("a listener without TLS: %d", res.StatusCode)
	}
	connect := func() error {
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", gw.Sockets[1].Bind), &tls.Config{ServerName: "any.com", InsecureSkipVerify: true}) //nolint:gosec // the test looks only if there is a certificate
		if err == nil {
			conn.Close()
		}
		return err
	}
	if connect() == nil {
		t.Error("a handshake without a certificate")
	}
	chain, key := pair(t, "any.com")
	gw.Secrets = []mesh.Secret{{Name: "gateway/late", Chain: chain, Key: key}}
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	eventually(t, "the certificate is used", func() bool { return connect() == nil })
}

// Envoy takes the clusters for all kinds of Services, with mTLS of the mesh or TLS of the application.
func TestGatewayClusters(t *testing.T) {
	chain, _ := pair(t, "backend.org")
	svc := backendOf("cart")
	svc.Identities = []string{idCart}
	svc.UDP, svc.Headless = svc.Ports, []mesh.Family{mesh.IPv6, mesh.IPv4}
	svc.Ports = append(svc.Ports, mesh.Port{Number: 81, Protocol: mesh.TCP})
	svc.BackendTLS = map[uint16]mesh.BackendTLS{81: {Hostname: "backend.org", DNSNames: []string{"a.org"}, URIs: []string{"spiffe://a"}, CAs: chain}}
	svc.ClientCertificates = map[string]string{"shop/edge": "gateway/secret"}
	resources := envoy.GatewayClusters(svc, secureConfig())
	var names []string
	for _, r := range resources {
		names = append(names, strings.TrimSuffix(r.Name+" "+r.Variant, " "))
		if !r.Lazy || r.Owner != "" || r.Namespace != "shop" {
			t.Errorf("%s is not a lazy cluster that gateways share: %+v", r.Name, r)
		}
	}
	slices.Sort(names)
	var want []string
	for _, end := range []string{"80/ipv6", "81/ipv6", "81/ipv6 shop/edge"} {
		for _, kind := range []string{"gateway/http1", "gateway/http2", "gateway/tcp", "mirror/gateway/http1", "mirror/gateway/http2"} {
			want = append(want, kind+"/shop/cart/"+end)
		}
	}
	want = append(want, "gateway/udp/shop/cart/80/ipv6")
	slices.Sort(want)
	if !slices.Equal(names, want) {
		t.Errorf("got  %q\nwant %q", names, want)
	}
	if err := envoy.Check(resources); err != nil {
		t.Error(err)
	}
	validate(t, resources)
	svc.Gateways = false
	if more := envoy.GatewayClusters(svc, secureConfig()); more != nil {
		t.Errorf("a Service to which no gateway sends has %d clusters", len(more))
	}
}

// Connections and sessions are shared by weight. An invalid backend's share goes nowhere.
func TestGatewayConnections(t *testing.T) {
	tcp := mesh.Socket{Port: 5000, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{Name: "tcp", Protocol: gatewayv1.TCPProtocolType, Connections: []mesh.Rule{{Action: to("echo")}}}}}
	weighted := func(name string, weight uint32, valid bool) mesh.Backend {
		return mesh.Backend{Target: targetOf(name), Weight: weight, Valid: valid}
	}
	half := mesh.Socket{Port: 5001, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{Name: "half", Protocol: gatewayv1.TCPProtocolType, Connections: []mesh.Rule{{
		Action: &mesh.Action{Backends: []mesh.Backend{weighted("echo", 1, true), weighted("none", 1, false)}},
	}}}}}
	udp := mesh.Socket{Port: 5000, Bind: tcp.Bind, UDP: true, Listeners: []mesh.Listener{{Name: "udp", Protocol: gatewayv1.UDPProtocolType, Connections: []mesh.Rule{{
		Action: &mesh.Action{Backends: []mesh.Backend{weighted("a", 1, true), weighted("b", 3, true), weighted("none", 1, false)}},
	}}}}}
	gw := shopEdge
	gw.Sockets = []mesh.Socket{tcp, udp, half}
	datagrams := func(name string) netip.AddrPort {
		conn, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		go func() {
			b := make([]byte, 100)
			for {
				n, from, err := conn.ReadFrom(b)
				if err != nil {
					return
				}
				_, _ = conn.WriteTo([]byte(name+string(b[:n])), from)
			}
		}()
		return netip.MustParseAddrPort(conn.LocalAddr().String())
	}
	g := startGateway(t, gw, func(g *gatewayOf) {
		g.service(backendOf("echo"), serveBytes(t, echo))
		for _, name := range []string{"a", "b"} {
			svc := backendOf(name)
			svc.UDP = svc.Ports
			g.service(svc, datagrams(name))
		}
	})
	g.validate()
	answers := func(s mesh.Socket) bool {
		conn := dial(t, fmt.Sprintf("127.0.0.1:%d", s.Bind))
		fmt.Fprint(conn, "hello")
		b := make([]byte, 5)
		_, err := io.ReadFull(conn, b)
		return err == nil && string(b) == "hello"
	}
	if !answers(tcp) {
		t.Error("no echo over TCP")
	}
	taken := 0
	for range 100 {
		if answers(half) {
			taken++
		}
	}
	if taken < 25 || taken > 75 {
		t.Errorf("%d of 100 connections went to the half that is valid", taken)
	}
	got := map[string]int{}
	for range 300 {
		conn, err := net.Dial("udp", fmt.Sprintf("127.0.0.1:%d", udp.Bind))
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, "x")
		b := make([]byte, 10)
		_ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
		n, _ := conn.Read(b)
		got[string(b[:n])]++
		conn.Close()
	}
	for answer, want := range map[string]int{"ax": 60, "bx": 180, "": 60} {
		if n := got[answer]; n < want/2 || n > want*3/2 {
			t.Errorf("%d of 300 sessions got %q, want about %d", n, answer, want)
		}
	}
}
