package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
	"time"
)

// LoadChain reads an authority of somebody's own: certsPEM is its certificate followed by intermediates,
// rootsPEM the roots that are to be trusted. Without roots a self-signed certificate of certsPEM is the one.
// now is the time at which the chain must hold. The error wraps one of the reasons above.
func LoadChain(certsPEM, keyPEM, rootsPEM []byte, now time.Time) (*Authority, error) {
	certs, err := ParseCertificates(certsPEM)
	if err != nil {
		return nil, fmt.Errorf("certificate %w", err)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("certificate %w: it is empty", ErrUnparsable)
	}
	roots, err := ParseCertificates(rootsPEM)
	if err != nil {
		return nil, fmt.Errorf("root %w", err)
	}
	if len(roots) == 0 {
		roots = selfSigned(certs)
	}
	for _, c := range roots {
		if !c.BasicConstraintsValid || !c.IsCA {
			return nil, fmt.Errorf("root %q %w", c.Subject.CommonName, ErrNotCA)
		}
	}
	key, err := pair(certs[0], keyPEM)
	if err != nil {
		return nil, err
	}
	a := &Authority{cert: certs[0], key: key, roots: roots}
	if err := a.findChain(certs[1:], now); err != nil {
		return nil, err
	}
	return a, nil
}

// findChain takes the first way to a root.
func (a *Authority) findChain(intermediates []*x509.Certificate, now time.Time) error {
	chains, err := a.cert.Verify(x509.VerifyOptions{
		Roots: pool(a.roots), Intermediates: pool(intermediates), CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("certificate %q %w", a.cert.Subject.CommonName, chainReason(a.cert, err, now))
	}
	chain := chains[0]
	a.notAfter = chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(a.notAfter) {
			a.notAfter = c.NotAfter
		}
	}
	a.chain = chain[:len(chain)-1]
	return nil
}

func chainReason(cert *x509.Certificate, err error, now time.Time) error {
	invalid := x509.CertificateInvalidError{}
	switch {
	case now.Before(cert.NotBefore):
		return fmt.Errorf("%w (before %s)", ErrNotYetValid, cert.NotBefore.Format(time.RFC3339))
	case now.After(cert.NotAfter):
		return fmt.Errorf("%w (%s)", ErrExpired, cert.NotAfter.Format(time.RFC3339))
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return fmt.Errorf("stands on a certificate that %w: %v", ErrExpired, err)
	}
	return fmt.Errorf("%w: %v", ErrNoChain, err)
}

func selfSigned(certs []*x509.Certificate) []*x509.Certificate {
	var out []*x509.Certificate
	for _, c := range certs {
		if bytes.Equal(c.RawIssuer, c.RawSubject) && c.CheckSignatureFrom(c) == nil {
			out = append(out, c)
		}
	}
	return out
}

func pool(certs []*x509.Certificate) *x509.CertPool {
	p := x509.NewCertPool()
	for _, c := range certs {
		p.AddCert(c)
	}
	return p
}
