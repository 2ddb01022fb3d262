package mesh

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
)

// CAKey is the key of a CA bundle in a ConfigMap.
const CAKey = "ca.crt"

// readCertificate reads a certificate chain with its key from a Secret, as cert-manager writes it, and the time until which it is valid. It
// refuses what Envoy would refuse, because a gateway that waits for a certificate opens no port. Errors hold nothing of the key.
// https://kubernetes.io/docs/concepts/configuration/secret/#tls-secrets
func readCertificate(o *corev1.Secret) (chain, key []byte, until time.Time, err error) {
	fail := func(format string, args ...any) ([]byte, []byte, time.Time, error) {
		return nil, nil, time.Time{}, fmt.Errorf(format, args...)
	}
	if o.Type != corev1.SecretTypeTLS {
		return fail("type: %q: want %s", o.Type, corev1.SecretTypeTLS)
	}
	chain, key = o.Data[corev1.TLSCertKey], o.Data[corev1.TLSPrivateKeyKey]
	for _, name := range []string{corev1.TLSCertKey, corev1.TLSPrivateKeyKey} {
		if len(o.Data[name]) == 0 {
			return fail("data[%s]: want PEM", name)
		}
	}
	pair, err := tls.X509KeyPair(chain, key)
	if err != nil {
		return fail("data: want a certificate in %s and its private key in %s: %w", corev1.TLSCertKey, corev1.TLSPrivateKeyKey, err)
	}
	switch public := pair.Leaf.PublicKey.(type) {
	case *rsa.PublicKey:
		if bits := public.N.BitLen(); bits < 2048 {
			return fail("data[%s]: an RSA key of %d bits: want 2048 or more", corev1.TLSPrivateKeyKey, bits)
		}
	case *ecdsa.PublicKey:
		if !slices.Contains([]elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}, public.Curve) {
			return fail("data[%s]: a key on curve %s: want P-256, P-384 or P-521", corev1.TLSPrivateKeyKey, public.Curve.Params().Name)
		}
	default:
		return fail("data[%s]: a key of type %T: want RSA or ECDSA", corev1.TLSPrivateKeyKey, public)
	}
	return chain, key, pair.Leaf.NotAfter, nil
}

// readCAs returns the CA bundle of a ConfigMap.
func readCAs(o *corev1.ConfigMap) ([]byte, error) {
	text, ok := o.Data[CAKey]
	if !ok {
		return nil, fmt.Errorf("data: want a key %s with CA certificates in PEM", CAKey)
	}
	rest, found := []byte(text), false
	for {
		var block *pem.Block
		if block, rest = pem.Decode(rest); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("data[%s]: %q: want PEM of type CERTIFICATE", CAKey, block.Type)
		}
		if _, err := x509.ParseCertificate(block.Bytes); err != nil {
			return nil, fmt.Errorf("data[%s]: want certificates in PEM: %w", CAKey, err)
		}
		found = true
	}
	if !found {
		return nil, fmt.Errorf("data[%s]: want certificates in PEM", CAKey)
	}
	return []byte(text), nil
}
