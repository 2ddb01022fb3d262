package envoy

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// systemCAs is the bundle of the proxy image.
const systemCAs = "/etc/ssl/certs/ca-certificates.crt"

var tlsVersions = map[string]tlsv3.TlsParameters_TlsProtocol{
	"":    tlsv3.TlsParameters_TLS_AUTO,
	"1.0": tlsv3.TlsParameters_TLSv1_0,
	"1.1": tlsv3.TlsParameters_TLSv1_1,
	"1.2": tlsv3.TlsParameters_TLSv1_2,
	"1.3": tlsv3.TlsParameters_TLSv1_3,
}

// listenerTLS is how a listener ends TLS. Envoy chooses among its certificates by the server name.
func listenerTLS(l *mesh.ListenerTLS, alpn ...string) *tlsv3.DownstreamTlsContext {
	common := &tlsv3.CommonTlsContext{
		TlsParams: &tlsv3.TlsParameters{
			TlsMinimumProtocolVersion: tlsVersions[l.MinVersion],
			TlsMaximumProtocolVersion: tlsVersions[l.MaxVersion],
			CipherSuites:              l.CipherSuites,
		},
		AlpnProtocols: alpn,
	}
	for _, name := range l.Certificates {
		common.TlsCertificateSdsSecretConfigs = append(common.TlsCertificateSdsSecretConfigs, adsSecret(name))
	}
	context := &tlsv3.DownstreamTlsContext{CommonTlsContext: common}
	if l.ClientCA == "" {
		return context
	}
	validation := &tlsv3.CertificateValidationContext{}
	context.RequireClientCertificate = wrapperspb.Bool(!l.AllowInvalidClient)
	if l.AllowInvalidClient {
		validation.TrustChainVerification = tlsv3.CertificateValidationContext_ACCEPT_UNTRUSTED
	}
	common.ValidationContextType = &tlsv3.CommonTlsContext_CombinedValidationContext{
		CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
			DefaultValidationContext: validation, ValidationContextSdsSecretConfig: adsSecret(l.ClientCA),
		},
	}
	return context
}

// backendTLS calls a backend with a BackendTLSPolicy. certificate is the Secret with the gateway's own certificate, or empty.
func backendTLS(b mesh.BackendTLS, certificate string, alpn ...string) *corev3.TransportSocket {
	validation := &tlsv3.CertificateValidationContext{TrustedCa: inline(b.CAs)}
	if b.CAs == nil {
		validation.TrustedCa = &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: systemCAs}}
	}
	match := func(kind tlsv3.SubjectAltNameMatcher_SanType, names ...string) {
		for _, name := range names {
			validation.MatchTypedSubjectAltNames = append(validation.MatchTypedSubjectAltNames, &tlsv3.SubjectAltNameMatcher{
				SanType: kind, Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: name}},
			})
		}
	}
	match(tlsv3.SubjectAltNameMatcher_DNS, b.DNSNames...)
	match(tlsv3.SubjectAltNameMatcher_URI, b.URIs...)
	if len(b.DNSNames)+len(b.URIs) == 0 {
		match(tlsv3.SubjectAltNameMatcher_DNS, b.Hostname)
	}
	common := &tlsv3.CommonTlsContext{
		ValidationContextType: &tlsv3.CommonTlsContext_ValidationContext{ValidationContext: validation},
		AlpnProtocols:         alpn,
	}
	if certificate != "" {
		common.TlsCertificateSdsSecretConfigs = []*tlsv3.SdsSecretConfig{adsSecret(certificate)}
	}
	return tlsSocket(&tlsv3.UpstreamTlsContext{Sni: b.Hostname, CommonTlsContext: common})
}

// adsSecret names a Secret of the control plane. If there is none, the control plane says so, and Envoy goes on: it refuses the
// connections that need the Secret until it comes.
func adsSecret(name string) *tlsv3.SdsSecretConfig {
	return &tlsv3.SdsSecretConfig{Name: name, SdsConfig: ads()}
}

func secretOf(s mesh.Secret) *tlsv3.Secret {
	if s.CAs != nil {
		return &tlsv3.Secret{Name: s.Name, Type: &tlsv3.Secret_ValidationContext{
			ValidationContext: &tlsv3.CertificateValidationContext{TrustedCa: inline(s.CAs)},
		}}
	}
	return &tlsv3.Secret{Name: s.Name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(s.Chain), PrivateKey: inline(s.Key)},
	}}
}

func inline(b []byte) *corev3.DataSource {
	return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: b}}
}
