package rotation

import (
	"crypto/tls"
	"errors"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// ErrNoCA is that of who should sign before a CA has been read.
var ErrNoCA = errors.New("no certificate authority has been read yet")

// Serving holds this replica's own leaf. It is renewed in the handshake that finds it due, so that
// neither a timer nor the API server stands between the replica and a valid certificate.
type Serving struct {
	leaf ca.Leaf
	now  func() time.Time

	mu     sync.Mutex
	signer *ca.Authority
	cert   *tls.Certificate
}

// NewServing gives one without a signer. Of the leaf Now is filled in.
func NewServing(leaf ca.Leaf, now func() time.Time) *Serving { return &Serving{leaf: leaf, now: now} }

// Use makes later leaves come from signer. The leaf of another signer is dropped.
func (s *Serving) Use(signer *ca.Authority) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer.Equal(signer) {
		return
	}
	s.signer, s.cert = signer, nil
}

// Certificate gives the leaf, signed anew when half of its life is over. When signing fails, for
// instance because the CA has expired, the old leaf is given as long as there is one.
func (s *Serving) Certificate() (*tls.Certificate, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.signer == nil {
		return nil, ErrNoCA
	}
	now := s.now()
	if s.cert != nil && now.Before(s.renewAt()) {
		return s.cert, nil
	}
	leaf := s.leaf
	leaf.Now = now
	cert, err := s.signer.Issue(leaf)
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
func (s *Serving) renewAt() time.Time {
	end := s.cert.Leaf.NotAfter
	if end.Equal(s.signer.NotAfter()) {
		return end
	}
	return end.Add(-s.leaf.Lifetime / 2)
}
