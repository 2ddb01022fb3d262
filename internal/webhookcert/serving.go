package webhookcert

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

var errNoCA = errors.New("no certificate authority has been read yet")

// serving holds this replica's leaf. It is renewed in the handshake that finds it due, so that
// neither a timer nor the API server stands between the replica and a valid certificate.
type serving struct {
	dnsNames []string
	lifetime time.Duration
	now      func() time.Time

	mu     sync.Mutex
	signer *ca.Authority
	cert   *tls.Certificate
}

// use makes later leaves come from signer. The leaf of another signer is dropped.
func (s *serving) use(signer *ca.Authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer.Equal(signer) {
		return
	}
	s.signer, s.cert = signer, nil
}

// certificate gives the leaf, signed anew when half of its life is over. When signing fails, for
// instance because the CA has expired, the old leaf is given as long as there is one.
func (s *serving) certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		return nil, errNoCA
	}
	now := s.now()
	if s.cert != nil && now.Before(s.renewAt()) {
		return s.cert, nil
	}
	cert, err := s.signer.Issue(ca.Leaf{
		CommonName: s.dnsNames[0],
		DNSNames:   s.dnsNames,
		Usages:     []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		Now:        now,
		Lifetime:   s.lifetime,
	})
	switch {
	case err == nil:
		s.cert = cert
	case s.cert == nil:
		return nil, err
	}
	return s.cert, nil
}

// renewAt is half of the lifetime before the end, or the end itself once the CA's own end is what
// bounds the leaf: a new one would not live longer.
func (s *serving) renewAt() time.Time {
	end := s.cert.Leaf.NotAfter
	if end.Equal(s.signer.Certificate().NotAfter) {
		return end
	}
	return end.Add(-s.lifetime / 2)
}

// verify tells whether an API server that trusts bundle accepts leaf under the first of its names.
func verify(leaf *x509.Certificate, bundle []byte, now time.Time) error {
	certs, err := ca.ParseCertificates(bundle)
	if err != nil {
		return err
	}
	if len(certs) == 0 {
		return errors.New("is empty")
	}
	roots := x509.NewCertPool()
	for _, c := range certs {
		roots.AddCert(c)
	}
	_, err = leaf.Verify(x509.VerifyOptions{
		Roots:       roots,
		DNSName:     leaf.DNSNames[0],
		CurrentTime: now,
		KeyUsages:   []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	return err
}
