// Package sdstest is the agent of a sidecar for tests, as far as Envoy sees it: certificates over SDS. It may
// import internal/ca, internal/sds, Envoy's protos and gRPC.
package sdstest

import (
	"context"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"math"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	upstreamhttpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/envoyproxy/go-control-plane/pkg/cache/v3"
	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"github.com/envoyproxy/go-control-plane/pkg/server/sotw/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// NewCA gives an authority for an hour.
func NewCA() (*ca.Authority, error) {
	return ca.Generate(ca.Options{CommonName: "test", Now: time.Now(), Lifetime: time.Hour})
}

// Issue gives a certificate of a workload that was made some time ago, with a lifetime from then on.
func Issue(a *ca.Authority, id string, ago, lifetime time.Duration) (*tls.Certificate, error) {
	uri, err := url.Parse(id)
	if err != nil {
		return nil, err
	}
	return a.Issue(ca.Leaf{
		URIs: []*url.URL{uri}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		Now: time.Now().Add(-ago), Lifetime: lifetime,
	})
}

// Server serves the secrets of one sidecar. Its methods are for one goroutine, but for Taken.
type Server struct {
	cache *cache.LinearCache
	// version is that of the cache, acknowledged is the one of each secret that Envoy has taken.
	version      int
	mu           sync.Mutex
	acknowledged map[string]int
}

// New serves the certificate of an identity, and a bundle with the root that signed it.
func New(a *ca.Authority, id string) (*Server, error) {
	cert, err := Issue(a, id, 0, time.Hour)
	if err != nil {
		return nil, err
	}
	return Of(cert, a.CertPEM())
}

// Of serves a certificate, and a bundle of roots in PEM.
func Of(cert *tls.Certificate, roots []byte) (*Server, error) {
	s := &Server{cache: cache.NewLinearCache(resource.SecretType), acknowledged: map[string]int{}}
	if err := s.Certificate(cert); err != nil {
		return nil, err
	}
	return s, s.bundle(roots)
}

// Serve answers on the listener until ctx ends; others may add services of their own.
func (s *Server) Serve(ctx context.Context, l net.Listener, others ...func(grpc.ServiceRegistrar)) {
	g := grpc.NewServer()
	for _, register := range others {
		register(g)
	}
	secretv3.RegisterSecretDiscoveryServiceServer(g, service{server: sotw.NewServer(ctx, s.cache, callbacks{s})})
	go func() { <-ctx.Done(); g.Stop() }()
	_ = g.Serve(l) // ends with ctx
}

// Certificate makes this one the sidecar's.
func (s *Server) Certificate(c *tls.Certificate) error {
	key, err := ca.EncodeKey(c.PrivateKey.(crypto.Signer))
	if err != nil {
		return err
	}
	return s.set(sds.Workload, &tlsv3.Secret{Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: inlined(ca.EncodeCertificates(c.Leaf)), PrivateKey: inlined(key),
	}}})
}

// Bundle makes these the roots that it trusts.
func (s *Server) Bundle(roots ...*ca.Authority) error {
	var pem []byte
	for _, r := range roots {
		pem = append(pem, r.CertPEM()...)
	}
	return s.bundle(pem)
}

func (s *Server) bundle(pem []byte) error {
	return s.set(sds.Bundle, &tlsv3.Secret{Type: &tlsv3.Secret_ValidationContext{
		ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inlined(pem)},
	}})
}

func (s *Server) set(name string, secret *tlsv3.Secret) error {
	secret.Name = name
	s.mu.Lock()
	s.version++
	s.mu.Unlock()
	return s.cache.UpdateResource(name, secret)
}

// Taken tells whether Envoy has acknowledged a secret since the last change of any.
func (s *Server) Taken(name string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acknowledged[name] == s.version
}

func inlined(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}

type service struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	server sotw.Server
}

// StreamSecrets answers one subscription.
func (s service) StreamSecrets(stream secretv3.SecretDiscoveryService_StreamSecretsServer) error {
	return s.server.StreamHandler(stream, resource.SecretType)
}

type callbacks struct{ s *Server }

// OnStreamRequest notes what Envoy acknowledges.
func (c callbacks) OnStreamRequest(_ int64, r *discoveryv3.DiscoveryRequest) error {
	if r.ResponseNonce == "" || r.ErrorDetail != nil {
		return nil
	}
	version, err := strconv.Atoi(r.VersionInfo)
	if err != nil {
		return err
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for _, name := range r.ResourceNames {
		c.s.acknowledged[name] = version
	}
	return nil
}

func (callbacks) OnStreamOpen(context.Context, int64, string) error { return nil }
func (callbacks) OnStreamClosed(int64, *corev3.Node)                {}
func (callbacks) OnStreamResponse(context.Context, int64, *discoveryv3.DiscoveryRequest, *discoveryv3.DiscoveryResponse) {
}

// Cluster is the static one by which Envoy asks, at this address.
func Cluster(address *corev3.Address) (*clusterv3.Cluster, error) {
	options, err := anypb.New(&upstreamhttpv3.HttpProtocolOptions{
		UpstreamProtocolOptions: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &upstreamhttpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
				},
			},
		},
	})
	return &clusterv3.Cluster{
		Name: sds.Cluster, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		TypedExtensionProtocolOptions: map[string]*anypb.Any{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": options},
		CircuitBreakers: &clusterv3.CircuitBreakers{Thresholds: []*clusterv3.CircuitBreakers_Thresholds{{ // as internal/agent
			MaxRequests: wrapperspb.UInt32(math.MaxUint32), MaxPendingRequests: wrapperspb.UInt32(math.MaxUint32),
		}}},
		LoadAssignment: &endpointv3.ClusterLoadAssignment{ClusterName: sds.Cluster, Endpoints: []*endpointv3.LocalityLbEndpoints{{
			LbEndpoints: []*endpointv3.LbEndpoint{{HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: address}}}},
		}}},
	}, err
}
