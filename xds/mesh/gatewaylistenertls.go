package mesh

import (
	"fmt"
	"slices"
	"strings"
	"time"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// Options of a listener's TLS.
const (
	optionMinVersion = config.Group + "/tls-min-version"
	optionMaxVersion = config.Group + "/tls-max-version"
	optionCiphers    = config.Group + "/tls-cipher-suites"
	optionHTTP3      = config.Group + "/http3"
)

var tlsVersions = []string{"1.0", "1.1", "1.2", "1.3"}

// ciphers are those that Envoy knows, by the names of BoringSSL, for TLS 1.2 and older.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/extensions/transport_sockets/tls/v3/common.proto
var ciphers = []string{
	"ECDHE-ECDSA-AES128-GCM-SHA256", "ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-ECDSA-AES256-GCM-SHA384", "ECDHE-RSA-AES256-GCM-SHA384",
	"ECDHE-ECDSA-CHACHA20-POLY1305", "ECDHE-RSA-CHACHA20-POLY1305", "ECDHE-ECDSA-AES128-SHA", "ECDHE-RSA-AES128-SHA",
	"ECDHE-ECDSA-AES256-SHA", "ECDHE-RSA-AES256-SHA", "AES128-GCM-SHA256", "AES256-GCM-SHA384", "AES128-SHA", "AES256-SHA",
}

// readTLS reads how a listener ends TLS: certificates, options, and the Gateway's validation of clients.
func (b *gatewayBuilder) readTLS(l *listener, field string, refuse func(reason gatewayv1.ListenerConditionReason, name string, value any, want string)) {
	l.tls = &ListenerTLS{}
	if b.in.NoIdentities {
		refuse(gatewayv1.ListenerReasonUnsupportedValue, ".protocol", l.Protocol, "HTTP, TCP, UDP, or TLS with mode Passthrough, in a mesh without identities: private keys are served to pods with an identity alone")
		return
	}
	if l.TLS == nil || len(l.TLS.CertificateRefs) == 0 {
		l.unresolved(gatewayv1.ListenerReasonInvalidCertificateRef, unresolvedRef{field: field + ".certificateRefs", problem: "want at least one Secret"})
	} else {
		for i, ref := range l.TLS.CertificateRefs {
			if name, ok := b.certificate(l, secretRef(l.from.Namespace, fmt.Sprintf("%s.certificateRefs[%d]", field, i), ref)); ok && !slices.Contains(l.tls.Certificates, name) {
				l.tls.Certificates = append(l.tls.Certificates, name)
			}
		}
		b.readOptions(l, refuse)
	}
	if l.Protocol == gatewayv1.HTTPSProtocolType {
		b.readValidation(l)
	}
}

// certificate adds the Secret of a reference to those of the Gateway, and returns its name.
func (b *gatewayBuilder) certificate(l *listener, ref objectRef) (string, bool) {
	fail := func(reason gatewayv1.ListenerConditionReason, format string, args ...any) (string, bool) {
		l.unresolved(reason, unresolvedRef{field: ref.field, problem: fmt.Sprintf(format, args...)})
		return "", false
	}
	if ref.Kind != KindSecret {
		return fail(gatewayv1.ListenerReasonInvalidCertificateRef, "%s: want a Secret of the core group", ref.Kind)
	}
	if !granted(b.in.Routes.Grants, l.from, ref.ID) {
		return fail(gatewayv1.ListenerReasonRefNotPermitted, "%s: no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to it", ref.ID, ref.Namespace, l.from.Kind, l.from.Namespace)
	}
	name, until, err := b.addCertificate(ref.Key)
	if err != nil {
		return fail(gatewayv1.ListenerReasonInvalidCertificateRef, "%s", err)
	}
	l.expiries = append(l.expiries, fmt.Sprintf("the certificate of %s expires at %s", ref.ID, until.UTC().Format(time.RFC3339)))
	return name, true
}

// addCertificate adds a Secret to those of the Gateway, and returns its name there and until when it is valid. One that is not valid any
// more is served all the same: clients say more of it than a closed port.
func (b *gatewayBuilder) addCertificate(key Key) (name string, until time.Time, err error) {
	id := ID{KindSecret, key}
	o := b.in.Secrets[key]
	if o == nil {
		return "", until, fmt.Errorf("%s of type kubernetes.io/tls does not exist", id)
	}
	chain, private, until, err := readCertificate(o)
	if err != nil {
		return "", until, fmt.Errorf("%s: %w", id, err)
	}
	name = b.out.CertificateName(key)
	b.secrets[name] = Secret{Name: name, Chain: chain, Key: private}
	return name, until, nil
}

func (b *gatewayBuilder) readOptions(l *listener, refuse func(reason gatewayv1.ListenerConditionReason, name string, value any, want string)) {
	bad := func(key gatewayv1.AnnotationKey, want string) {
		refuse(gatewayv1.ListenerReasonUnsupportedValue, fmt.Sprintf(".tls.options[%s]", key), l.TLS.Options[key], want)
	}
	keys := make([]gatewayv1.AnnotationKey, 0, len(l.TLS.Options))
	for key := range l.TLS.Options {
		keys = append(keys, key)
	}
	slices.Sort(keys)
	for _, key := range keys {
		value := string(l.TLS.Options[key])
		switch key {
		case optionMinVersion, optionMaxVersion:
			if !slices.Contains(tlsVersions, value) {
				bad(key, "one of "+strings.Join(tlsVersions, ", "))
			}
			if key == optionMinVersion {
				l.tls.MinVersion = value
			} else {
				l.tls.MaxVersion = value
			}
		case optionCiphers:
			for suite := range strings.SplitSeq(value, ",") {
				suite = strings.TrimSpace(suite)
				if !slices.Contains(ciphers, suite) {
					bad(key, "a list of "+strings.Join(ciphers, ", "))
				}
				l.tls.CipherSuites = append(l.tls.CipherSuites, suite)
			}
		case optionHTTP3:
			switch {
			case value != "true" && value != "false":
				bad(key, "true or false")
			case value == "true" && l.Protocol != gatewayv1.HTTPSProtocolType:
				bad(key, "false at a listener of protocol "+string(l.Protocol)+": HTTP/3 is for HTTPS")
			}
			l.tls.HTTP3 = wantsHTTP3(l.Listener)
		default:
			if strings.HasPrefix(string(key), config.Group+"/") { // other implementations have options of their own
				bad(key, strings.Join([]string{optionMinVersion, optionMaxVersion, optionCiphers, optionHTTP3}, ", ")+" as the key")
			}
		}
	}
	if l.tls.MinVersion != "" && l.tls.MaxVersion != "" && l.tls.MinVersion > l.tls.MaxVersion {
		bad(optionMinVersion, "at most "+l.tls.MaxVersion+", which "+optionMaxVersion+" says")
	}
	if l.tls.HTTP3 && l.tls.MaxVersion != "" && l.tls.MaxVersion != "1.3" {
		bad(optionMaxVersion, "1.3, without which there is no HTTP/3, or no "+optionHTTP3)
	}
}

// wantsHTTP3 reports whether a listener is to be served over QUIC, too.
func wantsHTTP3(l gatewayv1.Listener) bool {
	return l.Protocol == gatewayv1.HTTPSProtocolType && l.TLS != nil && l.TLS.Options[optionHTTP3] == "true"
}

// validation returns how the Gateway wants clients at a port to be validated, or nil.
func (b *gatewayBuilder) validation(port gatewayv1.PortNumber) (string, *gatewayv1.FrontendTLSValidation) {
	t := b.in.Gateway.Spec.TLS
	if t == nil || t.Frontend == nil {
		return "", nil
	}
	for i, p := range t.Frontend.PerPort {
		if p.Port == port {
			return fmt.Sprintf("spec.tls.frontend.perPort[%d].tls.validation", i), p.TLS.Validation
		}
	}
	return "spec.tls.frontend.default.validation", t.Frontend.Default.Validation
}

// readValidation reads the CAs that sign clients' certificates. "If ALL CACertificateRefs are invalid, the implementation MUST also
// ensure the Accepted condition on the listener is set to status: False, with the Reason NoValidCACertificate".
func (b *gatewayBuilder) readValidation(l *listener) {
	field, v := b.validation(l.Port)
	if v == nil {
		return
	}
	var bundle []byte
	for i, ref := range v.CACertificateRefs {
		cas := b.cas(l, referenced(b.id.Namespace, fmt.Sprintf("%s.caCertificateRefs[%d]", field, i), ref))
		if len(bundle) > 0 && len(cas) > 0 {
			bundle = append(bundle, '\n')
		}
		bundle = append(bundle, cas...)
	}
	if len(bundle) == 0 {
		l.accepted = new(condition(gatewayv1.ListenerConditionAccepted, false, gatewayv1.ListenerReasonNoValidCACertificate,
			field+".caCertificateRefs: want at least one ConfigMap with a CA certificate that can be used"))
		return
	}
	l.tls.ClientCA = b.out.SecretName("client-ca", Key{b.id.Namespace, fmt.Sprint(l.Port)})
	l.tls.AllowInvalidClient = v.Mode == gatewayv1.AllowInsecureFallback
	b.secrets[l.tls.ClientCA] = Secret{Name: l.tls.ClientCA, CAs: bundle}
}

// cas returns the CAs of a reference, or nil.
func (b *gatewayBuilder) cas(l *listener, ref objectRef) []byte {
	fail := func(reason gatewayv1.ListenerConditionReason, format string, args ...any) []byte {
		l.unresolved(reason, unresolvedRef{field: ref.field, problem: fmt.Sprintf(format, args...)})
		return nil
	}
	if ref.Kind != KindConfigMap {
		return fail(gatewayv1.ListenerReasonInvalidCACertificateKind, "%s: want a ConfigMap of the core group", ref.Kind)
	}
	if !granted(b.in.Routes.Grants, b.id, ref.ID) {
		return fail(gatewayv1.ListenerReasonRefNotPermitted, "%s: no ReferenceGrant in namespace %s allows %ss of namespace %s to refer to it", ref.ID, ref.Namespace, b.id.Kind, b.id.Namespace)
	}
	o := b.in.ConfigMaps[ref.Key]
	if o == nil {
		return fail(gatewayv1.ListenerReasonInvalidCACertificateRef, "%s does not exist", ref.ID)
	}
	out, err := readCAs(o)
	if err != nil {
		return fail(gatewayv1.ListenerReasonInvalidCACertificateRef, "%s: %s", ref.ID, err)
	}
	return out
}
