package webhookcert

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"time"
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
func simulate(t *testing.T, p Policy, lag time.Duration, seed uint64) (error, int) {
	rng := rand.New(rand.NewPCG(seed, seed))
	w := newWorld(t, webhookConfig())
	replicas := []*replica{w.replica(p, true), w.replica(p, false), w.replica(p, false)}
	w.reconcile(replicas[0])
	w.reconcile(replicas[1])
	w.reconcile(replicas[2])
	servers := []*apiServer{{lag: 0}, {lag: lag}}
	signers := map[string]bool{}
	for step := 0; step < 5*60*4; step++ {
		w.now = w.now.Add(15 * time.Second)
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
				r.leader = i == leader
			}
		}
		signers[w.state().Signer.Certificate().Subject.CommonName] = true
		bundle := w.config().Webhooks[0].ClientConfig.CABundle
		for _, s := range servers {
			trusted := s.observe(w.now, bundle)
			for i, r := range replicas {
				if err := verify(w.leaf(r), trusted, w.now); err != nil {
					return fmt.Errorf("after %s, replica %d, API server %s behind: %w", w.now.Sub(epoch), i, s.lag, err), len(signers)
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

func TestStep(t *testing.T) {
	p := testPolicy
	at := func(d time.Duration) time.Time { return epoch.Add(d) }
	fresh, err := p.Generate(epoch)
	if err != nil {
		t.Fatal(err)
	}
	other, err := p.Generate(at(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	withNext := State{Signer: fresh.Signer, Next: other.Signer}
	withPrevious := State{Signer: other.Signer, Previous: fresh.Trusted()}
	tests := []struct {
		name    string
		from    State
		now     time.Time
		trusted time.Duration
		want    string
		wait    time.Duration
	}{
		{"young: nothing to do", fresh, epoch, 0, "signer=old", time.Hour},
		{"a third is left: the next one is made", fresh, at(time.Hour), 0, "signer=old next=new", p.Settle},
		{"next is not settled", withNext, at(61 * time.Minute), time.Minute, "signer=old next=new", time.Minute},
		{"next is settled", withNext, at(62 * time.Minute), 2 * time.Minute, "signer=new previous=1", 28*time.Minute + time.Second},
		{"next is not settled, but the signer is about to die", withNext, at(89*time.Minute + 30*time.Second), 30 * time.Second, "signer=new previous=1", 31 * time.Second},
		{"the settle time is cut to what is left", withNext, at(89 * time.Minute), 20 * time.Second, "signer=old next=new", 20 * time.Second},
		{"next is not settled, but the signer is dead", withNext, at(91 * time.Minute), 0, "signer=new", 29 * time.Minute},
		{"previous lives", withPrevious, at(90 * time.Minute), 0, "signer=new previous=1", time.Second},
		{"previous is dead", withPrevious, at(91 * time.Minute), 0, "signer=new", 29 * time.Minute},
		{"all is dead", fresh, at(91 * time.Minute), 0, "signer=new", time.Hour},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, changed, wait, err := p.Step(tt.from, tt.now, tt.trusted)
			if err != nil {
				t.Fatal(err)
			}
			if s := describe(got, fresh); s != tt.want {
				t.Errorf("state %q, want %q", s, tt.want)
			}
			if want := describe(tt.from, fresh) != tt.want; changed != want {
				t.Errorf("changed %v, want %v", changed, want)
			}
			if wait != tt.wait {
				t.Errorf("wait %s, want %s", wait, tt.wait)
			}
		})
	}
}

func describe(s, old State) string {
	name := func(same bool) string {
		if same {
			return "old"
		}
		return "new"
	}
	out := "signer=" + name(s.Signer.Equal(old.Signer))
	if s.Next != nil {
		out += " next=" + name(s.Next.Equal(old.Signer))
	}
	if len(s.Previous) > 0 {
		out += fmt.Sprintf(" previous=%d", len(s.Previous))
	}
	return out
}

// A CA made under short lifetimes must not expire while its successor settles under long ones.
func TestLifetimesCanBeMadeLonger(t *testing.T) {
	short := Policy{CALifetime: 90 * time.Second, LeafLifetime: 20 * time.Second, Settle: 5 * time.Second}
	w := newWorld(t, webhookConfig())
	w.reconcile(w.replica(short, true))
	w.now = w.now.Add(40 * time.Second)
	r := w.replica(DefaultPolicy, true)
	next := w.now
	for end := w.now.Add(30 * time.Minute); w.now.Before(end); w.now = w.now.Add(time.Second) {
		// Only when it is due: the times that Reconcile asks for are part of the matter.
		if !w.now.Before(next) {
			next = w.now.Add(w.reconcile(r).RequeueAfter)
		}
		wantReady(t, r)
		if t.Failed() {
			t.Fatalf("after %s", w.now.Sub(epoch))
		}
	}
}

func TestPolicyValidate(t *testing.T) {
	if err := DefaultPolicy.Validate(); err != nil {
		t.Error(err)
	}
	for name, p := range map[string]Policy{
		"no CA lifetime":             {LeafLifetime: 1, Settle: 1},
		"leaf longer than a third":   {CALifetime: 3 * time.Hour, LeafLifetime: 61 * time.Minute},
		"no leaf lifetime":           {CALifetime: time.Hour},
		"settle longer than a sixth": {CALifetime: time.Hour, LeafLifetime: time.Minute, Settle: 11 * time.Minute},
		"negative settle":            {CALifetime: time.Hour, LeafLifetime: time.Minute, Settle: -1},
	} {
		if err := p.Validate(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
