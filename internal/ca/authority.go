package ca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"math/big"
	"net/url"
	"time"
)

// Backdate is how far before "now" a certificate's validity begins, so that a verifier whose clock
// is behind accepts it.
const Backdate = time.Hour

// Reasons for which an authority is refused. Load and CheckTime wrap one of them.
var (
	ErrUnparsable  = errors.New("cannot be parsed")
	ErrNotCA       = errors.New("is not a CA certificate")
	ErrKeyMismatch = errors.New("private key does not belong to the certificate")
	ErrExpired     = errors.New("has expired")
	ErrNotYetValid = errors.New("is not valid yet")
	ErrNoChain     = errors.New("does not lead to a root")
)

// Reason is a word for an error of Load, LoadChain or CheckTime, good for a metric's label.
func Reason(err error) string {
	for _, r := range []struct {
		err  error
		name string
	}{
		{ErrKeyMismatch, "KeyMismatch"},
		{ErrNotCA, "NotCA"},
		{ErrUnparsable, "Unparsable"},
		{ErrExpired, "Expired"},
		{ErrNotYetValid, "NotYetValid"},
		{ErrNoChain, "NoChain"},
	} {
		if errors.Is(err, r.err) {
			return r.name
		}
	}
	return "Unknown"
}

// Authority is a CA certificate with its private key. It is immutable and safe for concurrent use.
type Authority struct {
	cert *x509.Certificate
	key  crypto.Signer
	// chain are the certificates between a leaf and a root, this one first; none if it is a root itself.
	chain []*x509.Certificate
	roots []*x509.Certificate
	// notAfter is the end of the first to expire of the certificates between a leaf and a root.
	notAfter time.Time
}

// Options for Generate.
type Options struct {
	// CommonName of the CA; a random suffix is added, so that two generations are told apart.
	CommonName string
	// Now is the time of making.
	Now time.Time
	// Lifetime from Now on.
	Lifetime time.Duration
	// URIs that the CA certificate itself carries, as SPIFFE asks of a trust domain's root. Optional.
	URIs []*url.URL
}

// Generate makes a self-signed authority with an ECDSA P-256 key.
func Generate(o Options) (*Authority, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("generate CA key: %w", err)
	}
	serial, err := newSerial()
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: fmt.Sprintf("%s %08x", o.CommonName, serial.Uint64()&0xffffffff)},
		NotBefore:             o.Now.Add(-Backdate),
		NotAfter:              o.Now.Add(o.Lifetime),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true,
		IsCA:                  true,
		MaxPathLenZero:        true,
		URIs:                  o.URIs,
	}
	cert, err := sign(template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("sign CA certificate: %w", err)
	}
	return root(cert, key), nil
}

func root(cert *x509.Certificate, key crypto.Signer) *Authority {
	return &Authority{cert: cert, key: key, roots: []*x509.Certificate{cert}, notAfter: cert.NotAfter}
}

// Load reads an authority that is its own root from PEM. The error wraps ErrUnparsable, ErrNotCA or ErrKeyMismatch.
// Validity in time is the caller's to check, with CheckTime.
func Load(certPEM, keyPEM []byte) (*Authority, error) {
	certs, err := ParseCertificates(certPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %w", err)
	}
	if len(certs) != 1 {
		return nil, fmt.Errorf("certificate %w: %d PEM blocks, want 1", ErrUnparsable, len(certs))
	}
	key, err := pair(certs[0], keyPEM)
	if err != nil {
		return nil, err
	}
	return root(certs[0], key), nil
}

// pair reads the private key of a CA certificate.
func pair(cert *x509.Certificate, keyPEM []byte) (crypto.Signer, error) {
	key, err := ParseKey(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("private key %w", err)
	}
	if !cert.BasicConstraintsValid || !cert.IsCA || cert.KeyUsage&x509.KeyUsageCertSign == 0 {
		return nil, fmt.Errorf("certificate %q %w", cert.Subject.CommonName, ErrNotCA)
	}
	if !samePublicKey(cert.PublicKey, key.Public()) {
		return nil, fmt.Errorf("%w %q", ErrKeyMismatch, cert.Subject.CommonName)
	}
	return key, nil
}

// Certificate of the authority. Callers must not change it.
func (a *Authority) Certificate() *x509.Certificate { return a.cert }

// Chain are the certificates that a leaf is sent with: those between it and a root.
func (a *Authority) Chain() []*x509.Certificate { return a.chain }

// Roots are those that are trusted with this authority: the one that it stands on, and others that its
// owner names.
func (a *Authority) Roots() []*x509.Certificate { return a.roots }

// NotAfter is when the authority expires, or a certificate that it stands on.
func (a *Authority) NotAfter() time.Time { return a.notAfter }

// CertPEM is the certificate as Load reads it.
func (a *Authority) CertPEM() []byte { return EncodeCertificates(a.cert) }

// KeyPEM is the private key as Load reads it.
func (a *Authority) KeyPEM() ([]byte, error) { return EncodeKey(a.key) }

// Equal tells whether both hold the same certificate. Two nils are equal.
func (a *Authority) Equal(b *Authority) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.cert.Equal(b.cert)
}

// CheckTime gives an error that wraps ErrExpired or ErrNotYetValid when now lies outside the
// certificate's validity.
func (a *Authority) CheckTime(now time.Time) error {
	switch {
	case now.After(a.notAfter):
		return fmt.Errorf("certificate %q %w (%s)", a.cert.Subject.CommonName, ErrExpired, a.notAfter.Format(time.RFC3339))
	case now.Before(a.cert.NotBefore):
		return fmt.Errorf("certificate %q %w (before %s)", a.cert.Subject.CommonName, ErrNotYetValid, a.cert.NotBefore.Format(time.RFC3339))
	}
	return nil
}

// newSerial gives 127 random bits: RFC 5280 wants a positive number of at most 20 octets.
func newSerial() (*big.Int, error) {
	n, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, fmt.Errorf("serial number: %w", err)
	}
	return n.Add(n, big.NewInt(1)), nil
}

func sign(template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

func samePublicKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}
