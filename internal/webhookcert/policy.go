package webhookcert

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Policy says how long things live.
type Policy struct {
	// CALifetime is the life of one CA generation. The next one is made when a third of it is left.
	CALifetime time.Duration
	// LeafLifetime is the life of a serving certificate; it is renewed at half of it.
	LeafLifetime time.Duration
	// Settle is how long the next CA stands in every caBundle before it signs, so that every API
	// server has heard of it.
	Settle time.Duration
}

// DefaultPolicy is what a mesh uses unless flags say otherwise.
var DefaultPolicy = Policy{CALifetime: 365 * 24 * time.Hour, LeafLifetime: 24 * time.Hour, Settle: 10 * time.Minute}

// Validate refuses lifetimes with which a rotation could not finish before the old CA expires.
func (p Policy) Validate() error {
	third := p.CALifetime / 3
	switch {
	case p.CALifetime <= 0:
		return fmt.Errorf("CA lifetime %s: want more than 0", p.CALifetime)
	case p.LeafLifetime <= 0 || p.LeafLifetime > third:
		return fmt.Errorf("serving certificate lifetime %s: want more than 0 and at most a third of the CA's lifetime (%s)", p.LeafLifetime, third)
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
// trusted is how long s.Next has been in every caBundle without a break.
func (p Policy) Step(s State, now time.Time, trusted time.Duration) (next State, changed bool, wait time.Duration, err error) {
	next = State{Signer: s.Signer, Next: s.Next}
	for _, c := range s.Previous {
		if now.After(c.NotAfter) {
			changed = true
			continue
		}
		next.Previous = append(next.Previous, c)
	}
	switch {
	case s.Next == nil && s.Signer.CheckTime(now) != nil:
		// Every replica was away for the CA's whole life. Nothing can trust the old one any more.
		next.Signer, err = p.newCA(now)
		changed = true
	case s.Next == nil && !now.Before(p.renewAt(s.Signer)):
		next.Next, err = p.newCA(now)
		changed = true
	case s.Next != nil && trusted >= p.settle(s, now, trusted):
		next.Signer, next.Next = s.Next, nil
		if s.Signer.CheckTime(now) == nil {
			next.Previous = append([]*x509.Certificate{s.Signer.Certificate()}, next.Previous...)
		}
		changed = true
	}
	return next, changed, p.wait(next, now, trusted), err
}

// settle is how long s.Next has to be trusted before it signs: Settle, or as much of it as the signer
// lives to see. That is less where the CA was made under a policy of shorter lifetimes, or where nobody
// rotated it in time; half of the time that was left then goes to the API servers, half to the leaves.
func (p Policy) settle(s State, now time.Time, trusted time.Duration) time.Duration {
	left := s.Signer.Certificate().NotAfter.Sub(now)
	return min(p.Settle, max(0, (trusted+left)/2))
}

// renewAt is when a CA's successor is made.
func (p Policy) renewAt(a *ca.Authority) time.Time {
	return a.Certificate().NotAfter.Add(-p.CALifetime / 3)
}

// wait is the time until the next step can be due.
func (p Policy) wait(s State, now time.Time, trusted time.Duration) time.Duration {
	if s.Signer == nil {
		return 0
	}
	w := p.renewAt(s.Signer).Sub(now)
	if s.Next != nil {
		w = p.settle(s, now, trusted) - trusted
	}
	for _, c := range s.Previous {
		// A certificate is valid up to and including NotAfter, which has whole seconds.
		w = min(w, c.NotAfter.Add(time.Second).Sub(now))
	}
	return max(w, time.Second)
}

func (p Policy) newCA(now time.Time) (*ca.Authority, error) {
	return ca.Generate(ca.Options{CommonName: "mizzen webhook CA", Now: now, Lifetime: p.CALifetime})
}
