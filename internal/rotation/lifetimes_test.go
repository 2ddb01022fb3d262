package rotation

import (
	"fmt"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

var (
	epoch      = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	testPolicy = Lifetimes{CA: ca.Options{CommonName: "test"}, CALifetime: 90 * time.Minute, LeafLifetime: 10 * time.Minute, Settle: 2 * time.Minute}
)

func TestStep(t *testing.T) {
	p := testPolicy
	at := epoch.Add
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
			got, changed, wait, err := p.Step(tt.from, tt.now, Held{Trusted: tt.trusted})
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

func TestPolicyValidate(t *testing.T) {
	if err := testPolicy.Validate(); err != nil {
		t.Error(err)
	}
	for name, p := range map[string]Lifetimes{
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

// What is not used any more is forgotten before it expires, where the policy says so.
func TestForget(t *testing.T) {
	p := testPolicy
	p.Forget = 12 * time.Minute
	old, err := p.Generate(epoch)
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := p.Generate(epoch)
	if err != nil {
		t.Fatal(err)
	}
	s := State{Signer: fresh.Signer, Previous: old.Trusted()}
	for unused, want := range map[time.Duration]string{
		0: "signer=new previous=1", 12*time.Minute - 1: "signer=new previous=1", 12 * time.Minute: "signer=new",
	} {
		got, changed, wait, err := p.Step(s, epoch.Add(20*time.Minute), Held{Unused: unused})
		if err != nil {
			t.Fatal(err)
		}
		if described := describe(got, old); described != want || changed != (unused >= p.Forget) {
			t.Errorf("unused for %v: %q, changed %v, want %q", unused, described, changed, want)
		}
		if !changed && wait > p.Forget-unused+time.Second {
			t.Errorf("unused for %v: looks again in %v", unused, wait)
		}
	}
	if got, _, _, _ := testPolicy.Step(s, epoch.Add(time.Hour-1), Held{Unused: time.Hour}); len(got.Previous) != 1 {
		t.Error("forgotten without being asked to")
	}
}
