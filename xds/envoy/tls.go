package envoy

import (
	"crypto/sha256"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

// ALPN distinguishes mTLS of the mesh from an application's own TLS. It does not name the protocol inside.
const ALPN = "mizzen/1"

// The protocol that the calling side is going to speak, as a server name (SNI). A sidecar that must answer in HTTP goes by
// it (byALPN). Other sidecars ignore it, including those of versions that do not know it. It reveals no secret: an observer
// of the network can guess the protocol from the sizes of the records.
const (
	SpeaksHTTP  = "http"
	speaksBytes = ""
)

// callerTLS is the calling side: the peer must have exactly this SPIFFE ID.
func callerTLS(identity, speaks string) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: tlsContext(exactly(identity)),
		Sni:              speaks,
		// In a resumed session nobody would check the certificate again.
		MaxSessionKeys: wrapperspb.UInt32(0),
	})
}

// calledByAddressTLS is the calling side if each connection has its own expected SPIFFE ID (podFilters). Envoy requires it
// besides what the context requires, and does not share connections with different ones.
func calledByAddressTLS(mtls config.MeshMTLS) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: tlsContext(ofMesh(mtls)),
		MaxSessionKeys:   wrapperspb.UInt32(0), // as callerTLS
	})
}

// nobodyTLS is for a peer whose identity is not known. No certificate has this hash, so the handshake fails on the calling
// side. It needs no secrets, and only a fraction of the memory of callerTLS.
func nobodyTLS() *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:     onlyTLS13(),
		AlpnProtocols: []string{ALPN},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			VerifyCertificateHash: []string{strings.Repeat("00", sha256.Size)},
		}},
	}})
}

// calledTLS is the called side: the peer must have an identity of the mesh. The filters of the chain decide what it may do.
func calledTLS(mtls config.MeshMTLS, alpn ...string) *corev3.TransportSocket {
	context := tlsContext(ofMesh(mtls))
	context.AlpnProtocols = alpn
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         context,
		RequireClientCertificate: wrapperspb.Bool(true),
		SessionTicketKeysType:    &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	})
}

// ofMesh matches any SPIFFE ID of the trust domain.
func ofMesh(mtls config.MeshMTLS) *matcherv3.StringMatcher {
	return prefixed("spiffe://" + mtls.TrustDomain + "/ns/")
}

func exactly(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}

// tlsContext is TLS 1.3 with the pod's own certificate. The peer's certificate must be signed by a root of the bundle and
// have a matching URI.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/security/ssl#certificate-verification
func tlsContext(peer *matcherv3.StringMatcher) *tlsv3.CommonTlsContext {
	return &tlsv3.CommonTlsContext{
		TlsParams:                      onlyTLS13(),
		TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{sds.Config(sds.Workload)},
		ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
			CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
				DefaultValidationContext: &tlsv3.CertificateValidationContext{
					MatchTypedSubjectAltNames: []*tlsv3.SubjectAltNameMatcher{{SanType: tlsv3.SubjectAltNameMatcher_URI, Matcher: peer}},
				},
				ValidationContextSdsSecretConfig: sds.Config(sds.Bundle),
			},
		},
		AlpnProtocols: []string{ALPN},
	}
}

func onlyTLS13() *tlsv3.TlsParameters {
	return &tlsv3.TlsParameters{
		TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
		TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
	}
}
