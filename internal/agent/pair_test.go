package agent

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
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
	return startControlPlane(t, listentest.FreeAddress(t), grpc.Creds(credentials.NewTLS(settings)))
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
	p := &pair{cp: cp, authority: authority, outbound: listentest.FreeAddress(t), inbound: listentest.FreeAddress(t), log: &lockedBuffer{}}

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
