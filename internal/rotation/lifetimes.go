package rotation

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Lifetimes says how long certificates and roots live.
type Lifetimes struct {
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
func (l Lifetimes) Validate() error {
	third := l.CALifetime / 3
	switch {
	case l.CALifetime <= 0:
		return fmt.Errorf("CA lifetime %s: want more than 0", l.CALifetime)
	case l.LeafLifetime <= 0 || l.LeafLifetime > third:
		return fmt.Errorf("certificate lifetime %s: want more than 0 and at most a third of the CA's lifetime (%s)", l.LeafLifetime, third)
	case l.Settle < 0 || l.Settle > third/2:
		return fmt.Errorf("CA settle time %s: want 0 or more and at most a sixth of the CA's lifetime (%s)", l.Settle, third/2)
	}
	return nil
}

// Generate makes a state with a CA and nothing else.
func (l Lifetimes) Generate(now time.Time) (State, error) {
	signer, err := l.newCA(now)
	return State{Signer: signer}, err
}

// Step gives the state that follows s, whether it differs, and how long to wait before asking again.
func (l Lifetimes) Step(s State, now time.Time, held Held) (next State, changed bool, wait time.Duration, err error) {
	if s.Next == nil {
		// With an expired one every replica was away for the CA's whole life. Nothing can trust it any more.
		switch dead := s.Signer.CheckTime(now) != nil; {
		case dead:
			s.Signer, err = l.newCA(now)
			changed = true
		case !now.Before(l.renewAt(s.Signer)):
			s.Next, err = l.newCA(now)
			changed = true
		}
		if err != nil {
			return s, false, 0, err
		}
	}
	if !changed {
		if s, changed = l.Promote(s, now, held); changed {
			held.Unused = 0
		}
	}
	previous := len(s.Previous)
	s.Previous = l.Keep(s.Previous, now, held)
	return s, changed || len(s.Previous) < previous, l.Wait(s, now, held), nil
}

// Promote makes State.Next the signer if it is time, and tells whether it did.
func (l Lifetimes) Promote(s State, now time.Time, held Held) (State, bool) {
	if s.Next == nil || held.Trusted < l.settle(s, now, held) {
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
func (l Lifetimes) Keep(previous []*x509.Certificate, now time.Time, held Held) []*x509.Certificate {
	var kept []*x509.Certificate
	for _, c := range previous {
		if unused := l.Forget > 0 && held.Unused >= l.Forget; !unused && !now.After(c.NotAfter) {
			kept = append(kept, c)
		}
	}
	return kept
}

// settle is how long s.Next has to be trusted before it signs: Settle, or as much of it as the signer
// lives to see. That is less where the CA was made under a policy of shorter lifetimes, or where nobody
// rotated it in time; half of the time that was left then goes to those who verify, half to the leaves.
func (l Lifetimes) settle(s State, now time.Time, held Held) time.Duration {
	left := s.Signer.NotAfter().Sub(now)
	return min(l.Settle, max(0, (held.Trusted+left)/2))
}

// renewAt is when a CA's successor is made.
func (l Lifetimes) renewAt(a *ca.Authority) time.Time {
	return a.NotAfter().Add(-l.CALifetime / 3)
}

// Wait is the time until the next step can be due.
func (l Lifetimes) Wait(s State, now time.Time, held Held) time.Duration {
	w := l.renewAt(s.Signer).Sub(now)
	if s.Next != nil {
		w = l.settle(s, now, held) - held.Trusted
	}
	for _, c := range s.Previous {
		// A certificate is valid up to and including NotAfter, which has whole seconds.
		w = min(w, c.NotAfter.Add(time.Second).Sub(now))
		if l.Forget > 0 {
			w = min(w, l.Forget-held.Unused)
		}
	}
	return max(w, time.Second)
}

func (l Lifetimes) newCA(now time.Time) (*ca.Authority, error) {
	o := l.CA
	o.Now, o.Lifetime = now, l.CALifetime
	return ca.Generate(o)
}
