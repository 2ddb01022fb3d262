package authority

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// memory is what was read now and before. Its zero value is nothing yet.
type memory struct {
	// read is the last good state of the Secret.
	read rotation.State
	// old goes on signing for a while after the Secret has been given another CA that nobody trusted before;
	// nil otherwise.
	old *ca.Authority
	// forgotten are roots that the Secret no longer has and that are trusted still: of CAs replaced so.
	forgotten []*x509.Certificate
}

// take gives the memory after s was read from a Secret of ours or of somebody else.
func (m memory) take(s rotation.State, ours bool) memory {
	now := m.state()
	known := now.Signer.Equal(s.Signer) || ours && now.Next != nil && now.Next.Equal(s.Signer)
	switch {
	case now.Signer == nil:
		return memory{read: s}
	case m.old != nil && m.old.Equal(s.Signer): // it is back
		m.old = nil
	case m.old != nil && m.read.Signer.Equal(s.Signer): // nothing new
	case !known:
		m.old = now.Signer
		m.forgotten = now.Trusted()
	}
	m.read = s
	return m
}

// state is what this replica signs with and trusts.
func (m memory) state() rotation.State {
	s := m.read
	if m.old != nil {
		s = rotation.State{Signer: m.old, Next: m.read.Signer, Previous: m.read.Previous}
		if m.read.Next != nil {
			s.Previous = append(slices.Clone(s.Previous), m.read.Next.Roots()...)
		}
	}
	s.Previous = append(slices.Clone(s.Previous), m.forgotten...)
	return s
}

// settle ends what is only in memory when its time has come, and tells whether it did.
func (m memory) settle(p rotation.Lifetimes, now time.Time, held rotation.Held) (memory, bool) {
	if m.old != nil {
		if _, done := p.Promote(m.state(), now, held); done {
			m.old = nil
			return m, true
		}
		return m, false
	}
	kept := p.Keep(m.forgotten, now, held)
	changed := len(kept) < len(m.forgotten)
	m.forgotten = kept
	return m, changed
}
