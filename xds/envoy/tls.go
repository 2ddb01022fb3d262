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

// ALPN tells mTLS of the mesh from an application's own TLS. It says nothing of what is inside.
const ALPN = "mizzen/1"

// What the calling side says it is going to speak, as the name of a server (SNI). A sidecar that wants to answer in HTTP
// goes by it (byALPN); others, also of versions that know nothing of it, do not look. It is no secret: who hears the wire sees
// by the sizes of the records what is spoken.
const (
	SpeaksHTTP  = "http"
	speaksBytes = ""
)

// callerTLS is the calling side: the peer must be exactly this SPIFFE ID.
func callerTLS(identity, speaks string) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: tlsContext(exactly(identity)),
		Sni:              speaks,
		// A resumed session would be one of which nobody has seen the certificate again.
		MaxSessionKeys: wrapperspb.UInt32(0),
	})
}

// calledByAddressTLS is the calling side where each connection says which SPIFFE ID the peer must have (podFilters): Envoy
// wants that beside what the context wants. It keeps connections with different ones apart.
func calledByAddressTLS(mtls config.MeshMTLS) *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{
		CommonTlsContext: tlsContext(ofMesh(mtls)),
		MaxSessionKeys:   wrapperspb.UInt32(0), // as callerTLS
	})
}

// nobodyTLS is for a peer of whom it is not known who it should be: no certificate has this hash, so the handshake
// fails on the calling side. It needs no secrets, and a fraction of the memory of callerTLS.
func nobodyTLS() *corev3.TransportSocket {
	return tlsSocket(&tlsv3.UpstreamTlsContext{CommonTlsContext: &tlsv3.CommonTlsContext{
		TlsParams:     onlyTLS13(),
		AlpnProtocols: []string{ALPN},
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: &tlsv3.CertificateValidationContext{
			VerifyCertificateHash: []string{strings.Repeat("00", sha256.Size)},
		}},
	}})
}

// calledTLS is the called side: the peer must be somebody of the mesh. Who may do what is for the filters of
// the chain to decide.
func calledTLS(mtls config.MeshMTLS, alpn ...string) *corev3.TransportSocket {
	context := tlsContext(ofMesh(mtls))
	context.AlpnProtocols = alpn
	return tlsSocket(&tlsv3.DownstreamTlsContext{
		CommonTlsContext:         context,
		RequireClientCertificate: wrapperspb.Bool(true),
		SessionTicketKeysType:    &tlsv3.DownstreamTlsContext_DisableStatelessSessionResumption{DisableStatelessSessionResumption: true},
	})
}

// ofMesh is any SPIFFE ID of the trust domain.
func ofMesh(mtls config.MeshMTLS) *matcherv3.StringMatcher {
	return prefixed("spiffe://" + mtls.TrustDomain + "/ns/")
}

func exactly(text string) *matcherv3.StringMatcher {
	return &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: text}}
}

// tlsContext is TLS 1.3 with the pod's own certificate, and a peer whose certificate is signed by a root of
// the bundle and has a URI that matches.
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
