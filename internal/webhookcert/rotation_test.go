package webhookcert

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/rotation"
)

// apiServer trusts the caBundle as it was lag ago.
type apiServer struct {
	lag  time.Duration
	seen []seenBundle
}

type seenBundle struct {
	at     time.Time
	bundle []byte
}

func (a *apiServer) observe(now time.Time, bundle []byte) []byte {
	a.seen = append(a.seen, seenBundle{now, bundle})
	for len(a.seen) > 1 && !a.seen[1].at.After(now.Add(-a.lag)) {
		a.seen = a.seen[1:]
	}
	return a.seen[0].bundle
}

// simulate runs replicas that look at the cluster at random times, and leadership that wanders, over
// several CA generations. At every step every API server, prompt or slow, calls every replica. It
// gives the first x509 error, and how many signers there were.
func simulate(t *testing.T, p rotation.Lifetimes, lag time.Duration, seed uint64) (error, int) { //nolint:revive,staticcheck // the error is the result
	rng := rand.New(rand.NewPCG(seed, seed))
	w := newWorld(t, webhookConfig())
	replicas := []*replica{w.replica(p, true), w.replica(p, false), w.replica(p, false)}
	w.reconcile(replicas[0])
	w.reconcile(replicas[1])
	w.reconcile(replicas[2])
	servers := []*apiServer{{lag: 0}, {lag: lag}}
	signers := map[string]bool{}
	for step := 0; step < 5*60*4; step++ {
		w.Now = w.Now.Add(15 * time.Second)
		for i, r := range replicas {
			// The third is nearly cut off: it looks every 25 minutes.
			looks := rng.Float64() < 0.7
			if i == 2 {
				looks = step%(25*4) == 0
			}
			if looks {
				w.reconcile(r)
			}
		}
		if rng.Float64() < 0.005 {
			leader := rng.IntN(2)
			for i, r := range replicas {
				r.Leader = i == leader
			}
		}
		signers[w.state().Signer.Certificate().Subject.CommonName] = true
		bundle := w.config().Webhooks[0].ClientConfig.CABundle
		for _, s := range servers {
			trusted := s.observe(w.Now, bundle)
			for i, r := range replicas {
				if err := verify(w.leaf(r), trusted, w.Now); err != nil {
					return fmt.Errorf("after %s, replica %d, API server %s behind: %w", w.Now.Sub(epoch), i, s.lag, err), len(signers)
				}
			}
		}
	}
	return nil, len(signers)
}

func TestNoAPIServerEverSeesAnX509ErrorAcrossRotations(t *testing.T) {
	for seed := range uint64(3) {
		err, signers := simulate(t, testPolicy, testPolicy.Settle-15*time.Second, seed)
		if err != nil {
			t.Errorf("seed %d: %v", seed, err)
		}
		if signers < 4 {
			t.Errorf("seed %d: %d signers in 5 h; the CA was not rotated", seed, signers)
		}
	}
}

// The simulation must be able to fail: without a settle time a slow API server does not know the CA.
func TestTheSimulationSeesAMissingSettleTime(t *testing.T) {
	p := testPolicy
	p.Settle = 0
	if err, _ := simulate(t, p, 2*time.Minute, 1); err == nil {
		t.Error("no x509 error without a settle time")
	}
}

// A CA made under short lifetimes must not expire while its successor settles under long ones.
func TestLifetimesCanBeMadeLonger(t *testing.T) {
	short := rotation.Lifetimes{CALifetime: 90 * time.Second, LeafLifetime: 20 * time.Second, Settle: 5 * time.Second}
	w := newWorld(t, webhookConfig())
	w.reconcile(w.replica(short, true))
	w.Now = w.Now.Add(40 * time.Second)
	r := w.replica(DefaultLifetimes, true)
	next := w.Now
	for end := w.Now.Add(30 * time.Minute); w.Now.Before(end); w.Now = w.Now.Add(time.Second) {
		// Only when it is due: the times that Reconcile asks for are part of the matter.
		if !w.Now.Before(next) {
			next = w.Now.Add(w.reconcile(r).RequeueAfter)
		}
		wantReady(t, r)
		if t.Failed() {
			t.Fatalf("after %s", w.Now.Sub(epoch))
		}
	}
}
