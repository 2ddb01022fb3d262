package rotation

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Policy says how long things live.
type Policy struct {
	// CA is what each generation is made from; Now and Lifetime are filled in.
	CA ca.Options
	// CALifetime is the life of one CA generation. The next one is made when a third of it is left.
	CALifetime time.Duration
	// LeafLifetime is the life of the certificates that it signs.
	LeafLifetime time.Duration
	// Settle is how long the next CA is trusted before it signs, so that everybody who verifies has heard
	// of it.
	Settle time.Duration
	// Forget is how long a previous CA is trusted after its last use. 0 is until it expires.
	Forget time.Duration
}

// Held is for how long something has been so without a break, as far as the caller has seen.
type Held struct {
	// Trusted is how long everybody who verifies trusts State.Next.
	Trusted time.Duration
	// Unused is how long no State.Previous is needed.
	Unused time.Duration
}

// Validate refuses lifetimes with which a rotation could not finish before the old CA expires.
func (p Policy) Validate() error {
	third := p.CALifetime / 3
	switch {
	case p.CALifetime <= 0:
		return fmt.Errorf("CA lifetime %s: want more than 0", p.CALifetime)
	case p.LeafLifetime <= 0 || p.LeafLifetime > third:
		return fmt.Errorf("certificate lifetime %s: want more than 0 and at most a third of the CA's lifetime (%s)", p.LeafLifetime, third)
	case p.Settle < 0 || p.Settle > third/2:
		return fmt.Errorf("CA settle time %s: want 0 or more and at most a sixth of the CA's lifetime (%s)", p.Settle, third/2)
	}
	return nil
}

// Generate makes a state with a CA and nothing else.
func (p Policy) Generate(now time.Time) (State, error) {
	signer, err := p.newCA(now)
	return State{Signer: signer}, err
}

// Step gives the state that follows s, whether it differs, and how long to wait before asking again.
func (p Policy) Step(s State, now time.Time, held Held) (next State, changed bool, wait time.Duration, err error) {
	if s.Next == nil {
		// With an expired one every replica was away for the CA's whole life. Nothing can trust it any more.
		switch dead := s.Signer.CheckTime(now) != nil; {
		case dead:
			s.Signer, err = p.newCA(now)
			changed = true
		case !now.Before(p.renewAt(s.Signer)):
			s.Next, err = p.newCA(now)
			changed = true
		}
		if err != nil {
			return s, false, 0, err
		}
	}
	if !changed {
		if s, changed = p.Promote(s, now, held); changed {
			held.Unused = 0
		}
	}
	previous := len(s.Previous)
	s.Previous = p.Keep(s.Previous, now, held)
	return s, changed || len(s.Previous) < previous, p.Wait(s, now, held), nil
}

// Promote makes State.Next the signer if it is time, and tells whether it did.
func (p Policy) Promote(s State, now time.Time, held Held) (State, bool) {
	if s.Next == nil || held.Trusted < p.settle(s, now, held) {
		return s, false
	}
	next := State{Signer: s.Next}
	if s.Signer.CheckTime(now) == nil {
		next.Previous = add(next.Previous, s.Signer.Roots()...)
	}
	next.Previous = add(next.Previous, s.Previous...)
	return next, true
}

// Keep gives those of the previous roots that are trusted still.
func (p Policy) Keep(previous []*x509.Certificate, now time.Time, held Held) []*x509.Certificate {
	var kept []*x509.Certificate
	for _, c := range previous {
		if unused := p.Forget > 0 && held.Unused >= p.Forget; !unused && !now.After(c.NotAfter) {
			kept = append(kept, c)
		}
	}
	return kept
}

// settle is how long s.Next has to be trusted before it signs: Settle, or as much of it as the signer
// lives to see. That is less where the CA was made under a policy of shorter lifetimes, or where nobody
// rotated it in time; half of the time that was left then goes to those who verify, half to the leaves.
func (p Policy) settle(s State, now time.Time, held Held) time.Duration {
	left := s.Signer.NotAfter().Sub(now)
	return min(p.Settle, max(0, (held.Trusted+left)/2))
}

// renewAt is when a CA's successor is made.
func (p Policy) renewAt(a *ca.Authority) time.Time {
	return a.NotAfter().Add(-p.CALifetime / 3)
}

// Wait is the time until the next step can be due.
func (p Policy) Wait(s State, now time.Time, held Held) time.Duration {
	w := p.renewAt(s.Signer).Sub(now)
	if s.Next != nil {
		w = p.settle(s, now, held) - held.Trusted
	}
	for _, c := range s.Previous {
		// A certificate is valid up to and including NotAfter, which has whole seconds.
		w = min(w, c.NotAfter.Add(time.Second).Sub(now))
		if p.Forget > 0 {
			w = min(w, p.Forget-held.Unused)
		}
	}
	return max(w, time.Second)
}

func (p Policy) newCA(now time.Time) (*ca.Authority, error) {
	o := p.CA
	o.Now, o.Lifetime = now, p.CALifetime
	return ca.Generate(o)
}
