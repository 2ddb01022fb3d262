package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"net/url"
	"time"
)

// Leaf says what an end certificate holds. The names are always the caller's decision; nothing is
// taken over from a signing request but its public key.
type Leaf struct {
	CommonName string
	// SerialNumber of the subject, which is not that of the certificate. Optional.
	SerialNumber string
	DNSNames     []string
	URIs         []*url.URL
	IPs          []net.IP
	Usages       []x509.ExtKeyUsage
	// Now and Lifetime give the validity. It never reaches beyond the authority's own.
	Now      time.Time
	Lifetime time.Duration
}

// Sign makes a certificate for a public key.
func (a *Authority) Sign(l Leaf, pub crypto.PublicKey) (*x509.Certificate, error) {
	if err := checkPublicKey(pub); err != nil {
		return nil, err
	}
	if err := a.CheckTime(l.Now); err != nil {
		return nil, fmt.Errorf("sign: CA %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	notAfter := l.Now.Add(l.Lifetime)
	if notAfter.After(a.notAfter) {
		notAfter = a.notAfter
	}
	cert, err := sign(&x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: l.CommonName, SerialNumber: l.SerialNumber},
		DNSNames:              l.DNSNames,
		URIs:                  l.URIs,
		IPAddresses:           l.IPs,
		NotBefore:             l.Now.Add(-Backdate),
		NotAfter:              notAfter,
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           l.Usages,
		BasicConstraintsValid: true,
	}, a.cert, pub, a.key)
	if err != nil {
		return nil, fmt.Errorf("sign certificate: %w", err)
	}
	return cert, nil
}

// SignCSR makes a certificate for the key of a signing request whose signature proves that the
// sender holds the private key. The request's own names are for the caller to compare beforehand.
func (a *Authority) SignCSR(l Leaf, csr *x509.CertificateRequest) (*x509.Certificate, error) {
	if err := csr.CheckSignature(); err != nil {
		return nil, fmt.Errorf("certificate signing request: %w", err)
	}
	return a.Sign(l, csr.PublicKey)
}

// Issue makes a fresh ECDSA P-256 key and a certificate for it.
func (a *Authority) Issue(l Leaf) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate key: %w", err)
	}
	cert, err := a.Sign(l, key.Public())
	if err != nil {
		return nil, err
	}
	out := &tls.Certificate{Certificate: [][]byte{cert.Raw}, PrivateKey: key, Leaf: cert}
	for _, c := range a.chain {
		out.Certificate = append(out.Certificate, c.Raw)
	}
	return out, nil
}

// checkPublicKey refuses keys that are too weak to be worth a certificate.
func checkPublicKey(pub crypto.PublicKey) error {
	switch k := pub.(type) {
	case *ecdsa.PublicKey:
		if bits := k.Curve.Params().BitSize; bits < 256 {
			return fmt.Errorf("ECDSA key of %d bits: want at least 256", bits)
		}
	case *rsa.PublicKey:
		if bits := k.N.BitLen(); bits < 2048 {
			return fmt.Errorf("RSA key of %d bits: want at least 2048", bits)
		}
	case ed25519.PublicKey:
	default:
		return fmt.Errorf("key type %T: want ECDSA, RSA or Ed25519", pub)
	}
	return nil
}
