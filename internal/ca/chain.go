package ca

import (
	"bytes"
	"crypto/x509"
	"errors"
	"fmt"
)

// LoadChain reads an authority of somebody's own: certsPEM is its certificate followed by intermediates,
// rootsPEM the roots that are to be trusted. Without roots a self-signed certificate of certsPEM is the one.
// leaf is one that it must be able to sign now. The error wraps one of the reasons of this package.
func LoadChain(certsPEM, keyPEM, rootsPEM []byte, leaf Leaf) (*Authority, error) {
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
	a := &Authority{cert: certs[0], key: key, roots: roots, notAfter: certs[0].NotAfter}
	if err := a.findChain(certs, leaf); err != nil {
		return nil, err
	}
	return a, nil
}

// findChain signs a leaf and takes the first way from it to a root, which also shows whether a certificate
// on the way forbids such leaves.
func (a *Authority) findChain(certs []*x509.Certificate, leaf Leaf) error {
	trial, err := a.Sign(leaf, a.key.Public())
	if err != nil {
		return err
	}
	chains, err := trial.Verify(x509.VerifyOptions{
		Roots: pool(a.roots), Intermediates: pool(certs), CurrentTime: leaf.Now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	})
	if err != nil {
		return fmt.Errorf("certificate %q %w", a.cert.Subject.CommonName, chainReason(err))
	}
	chain := chains[0][1:]
	a.notAfter = chain[0].NotAfter
	for _, c := range chain {
		if c.NotAfter.Before(a.notAfter) {
			a.notAfter = c.NotAfter
		}
	}
	a.chain = chain[:len(chain)-1]
	return nil
}

func chainReason(err error) error {
	if invalid := (x509.CertificateInvalidError{}); errors.As(err, &invalid) && invalid.Reason == x509.Expired {
		return fmt.Errorf("stands on a certificate that %w: %w", ErrExpired, err)
	}
	return fmt.Errorf("%w: %w", ErrNoChain, err)
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
