package agent

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// withIdentity makes an agent ask this server for its certificates.
func withIdentity(t *testing.T, authority *authoritytest.Server, roots ...*ca.Authority) func(*Settings) {
	t.Helper()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(authoritytest.Token+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(s *Settings) {
		s.IdentityAddress, s.TokenFile, s.TrustBundle = authority.Addr, token, authoritytest.Bundle(roots...)
	}
}

// startSecureControlPlane lets in whoever has a certificate of the mesh.
func startSecureControlPlane(t *testing.T, authority *authoritytest.Server) *controlPlaneStub {
	t.Helper()
	settings := authority.TLS(tls.RequireAndVerifyClientCert, "h2")
	return startControlPlane(t, freeAddress(t), grpc.Creds(credentials.NewTLS(settings)))
}

func (cp *controlPlaneStub) opened() int {
	cp.mu.Lock()
	defer cp.mu.Unlock()
	return cp.streams
}

// mtls is what a sidecar's connections to another have in common.
func mtls(match string) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds.Config(sds.Workload)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{
						SanType: tlsv3.SubjectAltNameMatcher_URI,
						Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: match}},
					}},
				},
				ValidationContextSdsSecretConfig: sds.Config(sds.Bundle),
			},
		},
	}
}

func tlsSocket(m proto.Message) *corev3.TransportSocket {
	return &corev3.TransportSocket{
		Name: "envoy.transport_sockets.tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: toAny(m)},
	}
}

// pair is one Envoy that is client and server of mutual TLS: outbound (plain) → inbound (TLS) → the application.
type pair struct {
	*running
	cp                *controlPlaneStub
	authority         *authoritytest.Server
	outbound, inbound string
	log               *lockedBuffer
}

func startPair(t *testing.T, life time.Duration, app http.Handler) *pair {
	t.Helper()
	upstream := httptest.NewServer(app)
	t.Cleanup(upstream.Close)
	authority := authoritytest.Start(t, life)
	cp := startSecureControlPlane(t, authority)
	p := &pair{cp: cp, authority: authority, outbound: freeAddress(t), inbound: freeAddress(t), log: &lockedBuffer{}}

	toInbound := staticCluster(netip.MustParseAddrPort(p.inbound))
	toInbound.TransportSocket = tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: mtls(authoritytest.ID)})
	// A connection for each request, so that each request is a handshake.
	toInbound.TypedExtensionProtocolOptions = map[string]*anypb.Any{httpOptionsKey: toAny(&upstreamhttpv3.HttpProtocolOptions{
		CommonHttpProtocolOptions: &corev3.HttpProtocolOptions{MaxRequestsPerConnection: wrapperspb.UInt32(1)},
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions{},
			},
		},
	})}
	toApp := staticCluster(netip.MustParseAddrPort(upstream.Listener.Addr().String()))
	toApp.Name, toApp.LoadAssignment.ClusterName = "app", "app"
	inbound := tcpListener(netip.MustParseAddrPort(p.inbound))
	inbound.FilterChains[0].Filters[0].ConfigType = tcpProxyTo("app")
	inbound.FilterChains[0].TransportSocket = tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext: mtls(authoritytest.ID), RequireClientCertificate: wrapperspb.Bool(true),
	})
	cp.send(clusterType, toInbound, toApp)
	cp.send(listenerType, httpListener(netip.MustParseAddrPort(p.outbound)), inbound)
	p.running = startLogging(t, io.MultiWriter(t.Output(), p.log), cp.addr, withIdentity(t, authority, authority.State().Roots...))
	return p
}

// secured connects to the inbound side as another workload of the mesh would, and gives the certificate that
// it shows.
func (p *pair) serverCertificate(t *testing.T) *x509.Certificate {
	t.Helper()
	now := p.authority.State()
	client, err := now.Signer.Issue(ca.Leaf{
		URIs: p.authority.Signed()[0].URIs, Now: time.Now(), Lifetime: time.Minute, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	c, err := tls.Dial("tcp", p.inbound, &tls.Config{
		Certificates: []tls.Certificate{*client}, InsecureSkipVerify: true, // the name is a URI; Roots are checked below
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	cert := c.ConnectionState().PeerCertificates[0]
	if _, err := cert.Verify(x509.VerifyOptions{Roots: authoritytest.Pool(now.Roots...), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}}); err != nil {
		t.Errorf("the server's certificate: %v", err)
	}
	return cert
}

// awaitServing waits until new connections get a certificate that fulfils the condition.
func (p *pair) awaitServing(t *testing.T, what string, good func(*x509.Certificate) bool) *x509.Certificate {
	t.Helper()
	var cert *x509.Certificate
	eventually(t, func() bool {
		cert = p.serverCertificate(t)
		return good(cert)
	}, func() string { return "new connections do not get " + what })
	return cert
}

// Certificates that live for seconds are renewed, and the root is replaced, without a request or a
// stream that fails.
func TestRenewalAndRotationBreakNothing(t *testing.T) {
	p := startPair(t, 3*time.Second, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/stream" {
			fmt.Fprint(w, "ok")
			return
		}
		for r.Context().Err() == nil { // a stream that never pauses for long
			if _, err := fmt.Fprintln(w, "tick"); err != nil {
				return
			}
			w.(http.Flusher).Flush()
			time.Sleep(20 * time.Millisecond)
		}
	}))
	p.awaitReady(200, "ready")
	stream, err := http.Get("http://" + p.outbound + "/stream")
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Body.Close()
	var ticks atomic.Int64
	streamEnded := make(chan error, 1)
	go func() {
		line := make([]byte, len("tick\n"))
		for {
			if _, err := io.ReadFull(stream.Body, line); err != nil {
				streamEnded <- err
				return
			}
			ticks.Add(1)
		}
	}()
	load := startLoad("http://" + p.outbound)
	defer load.stop()

	first := p.serverCertificate(t)
	eventually(t, func() bool { return len(p.authority.Signed()) >= 4 }, func() string { return "no three renewals" })
	renewed := p.awaitServing(t, "a renewed certificate", func(c *x509.Certificate) bool { return !c.Equal(first) })
	if old, ok := first.PublicKey.(interface{ Equal(x any) bool }); ok && old.Equal(renewed.PublicKey) {
		t.Error("the key is the same as before the renewal")
	}

	old, next := p.authority.State().Signer, authoritytest.NewRoot(t, "second")
	rotate := func(what string, change func(*authoritytest.State)) {
		t.Helper()
		p.authority.Change(change)
		eventually(t, p.authority.Has, func() string { return what + ": the agent does not say that Envoy has the roots" })
	}
	rotate("trust both", func(s *authoritytest.State) { s.Roots = []*ca.Authority{old, next} })
	p.authority.Change(func(s *authoritytest.State) { s.Signer = next })
	p.awaitServing(t, "a certificate of the new root", func(c *x509.Certificate) bool {
		return c.CheckSignatureFrom(next.Certificate()) == nil
	})
	rotate("forget the old", func(s *authoritytest.State) { s.Roots = []*ca.Authority{next} })
	before := len(p.authority.Signed())
	eventually(t, func() bool { return len(p.authority.Signed()) > before }, func() string { return "no renewal after the rotation" })
	if kept, err := os.ReadFile(filepath.Join(p.dir, "bundle.pem")); err != nil || string(kept) != authoritytest.Bundle(next) {
		t.Errorf("bundle.pem: %v\n%s", err, kept)
	}

	seen := ticks.Load()
	eventually(t, func() bool { return ticks.Load() > seen }, func() string { return "the stream stands still" })
	select {
	case err := <-streamEnded:
		t.Errorf("the stream ended: %v", err)
	default:
	}
	done, failed := load.stop()
	t.Logf("%d certificates, %d requests with a connection each, %d ticks of one stream", len(p.authority.Signed()), done, ticks.Load())
	if len(failed) > 0 || done < 100 {
		t.Errorf("%d of %d requests failed, the first: %v", len(failed), done, failed[0])
	}
	if n := p.cp.opened(); n != 1 {
		t.Errorf("%d ADS streams, want the one of the beginning", n)
	}
}

// The key is where Envoy gets it and nowhere else.
func TestKeyIsNotShown(t *testing.T) {
	p := startPair(t, time.Hour, http.NotFoundHandler())
	p.awaitReady(200, "ready")
	socket := filepath.Join(p.dir, "sds.sock")
	if info, err := os.Stat(socket); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v; want mode 0600", info, err)
	}
	key := fetchKey(t, socket)
	admin := newAdminClient(filepath.Join(p.dir, "admin.sock"))
	dump := func(path string) string {
		res, err := admin.open(t.Context(), http.MethodGet, path)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		b, err := io.ReadAll(res.Body)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	texts := map[string]string{"/config_dump": dump("/config_dump?include_eds"), "/certs": dump("/certs"), "/stats": dump("/stats")}
	if !strings.Contains(texts["/config_dump"], "dynamic_active_secrets") || !strings.Contains(texts["/config_dump"], base64.StdEncoding.EncodeToString([]byte("[redacted]"))) {
		t.Error("Envoy's dump has no secrets, not even redacted ones: the test sees nothing")
	}
	for _, path := range []string{"/metrics", "/readyz", "/healthz"} {
		_, texts[path] = p.get(path)
	}
	files, err := filepath.Glob(filepath.Join(p.dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if b, err := os.ReadFile(file); err == nil {
			texts[file] = string(b)
		}
	}
	texts["log"] = p.log.String()
	for name, text := range texts {
		for _, form := range forms(key) {
			if strings.Contains(text, form) {
				t.Errorf("%s shows the private key", name)
			}
		}
	}
	if limits, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.envoyPID())); err != nil || !strings.Contains(string(limits), "Max core file size        1 ") {
		t.Errorf("Envoy may dump core: %v\n%s", err, limits)
	}
}

// forms are pieces of a PEM key as it might be written somewhere.
func forms(key []byte) []string {
	lines := strings.Split(strings.TrimSpace(string(key)), "\n")
	middle := lines[1 : len(lines)-1]
	return append([]string{"PRIVATE KEY", base64.StdEncoding.EncodeToString(key)[40:80]}, middle...)
}

// load asks again and again, each time with a connection of its own.
type load struct {
	mu     sync.Mutex
	done   int
	failed []error
	end    chan struct{}
	once   sync.Once
	ended  sync.WaitGroup
}

func startLoad(url string) *load {
	l := &load{end: make(chan struct{})}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 5 * time.Second}
	l.ended.Go(func() {
		for {
			select {
			case <-l.end:
				return
			case <-time.After(5 * time.Millisecond):
			}
			err := ask(client, url)
			l.mu.Lock()
			l.done++
			if err != nil {
				l.failed = append(l.failed, err)
			}
			l.mu.Unlock()
		}
	})
	return l
}

func (l *load) stop() (int, []error) {
	l.once.Do(func() { close(l.end) })
	l.ended.Wait()
	return l.done, l.failed
}

func ask(client *http.Client, url string) error {
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 200 {
		return fmt.Errorf("%d %s %w", res.StatusCode, body, err)
	}
	return nil
}

// lockedBuffer is a log that is read while it is written.
type lockedBuffer struct {
	mu sync.Mutex
	b  strings.Builder
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

// fetchKey asks the agent for the workload's secret as Envoy does.
func fetchKey(t *testing.T, socket string) []byte {
	t.Helper()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	stream, err := secretv3.NewSecretDiscoveryServiceClient(conn).StreamSecrets(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&discoveryv3.DiscoveryRequest{TypeUrl: sds.TypeURL, ResourceNames: []string{sds.Workload}}); err != nil {
		t.Fatal(err)
	}
	res, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	secret := &tlsv3.Secret{}
	if err := res.GetResources()[0].UnmarshalTo(secret); err != nil {
		t.Fatal(err)
	}
	key := secret.GetTlsCertificate().GetPrivateKey().GetInlineBytes()
	if !strings.Contains(string(key), "PRIVATE KEY") {
		t.Fatal("no key in the secret")
	}
	return key
}
