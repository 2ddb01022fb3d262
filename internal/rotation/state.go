package rotation

import (
	"crypto/x509"
	"slices"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// State is a CA in all its generations.
type State struct {
	// Signer signs leaves.
	Signer *ca.Authority
	// Next is trusted already and becomes the signer after the settle time. Usually nil.
	Next *ca.Authority
	// Previous roots are trusted still; their keys are gone.
	Previous []*x509.Certificate
}

// Trusted are all roots that whoever verifies a leaf must know, in a fixed order, without doubles.
func (s State) Trusted() []*x509.Certificate {
	if s.Signer == nil {
		return nil
	}
	certs := slices.Clone(s.Signer.Roots())
	if s.Next != nil {
		certs = add(certs, s.Next.Roots()...)
	}
	return add(certs, s.Previous...)
}

// add appends those that are missing.
func add(certs []*x509.Certificate, more ...*x509.Certificate) []*x509.Certificate {
	for _, c := range more {
		if !slices.ContainsFunc(certs, c.Equal) {
			certs = append(certs, c)
		}
	}
	return certs
}
