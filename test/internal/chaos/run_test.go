package chaos

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// What was half done is taken back, also when the run is interrupted meanwhile, and nothing is awaited after that.
func TestStepTakesBack(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	undone := false
	f := fault{name: "half", do: func(ctx context.Context, _ *suite, _ *rand.Rand) (*harm, error) {
		cancel()
		return &harm{
			target: "pod/a", excuses: []excuse{{of: answeredBy(server), from: time.Now()}},
			undo:   func(ctx context.Context) error { undone = true; return ctx.Err() },
			settle: func(context.Context) error { t.Error("settled"); return nil },
		}, ctx.Err()
	}}
	e := (&suite{}).step(ctx, f, step{fault: "half"})
	if !undone || e.undone.IsZero() || !e.settled.IsZero() || e.target != "pod/a" || e.excuses[0].until.IsZero() {
		t.Errorf("undone %t, %+v", undone, e)
	}
	if !errors.Is(e.err, context.Canceled) || strings.Contains(e.err.Error(), "not taken back") {
		t.Errorf("error %v, want that of the fault alone", e.err)
	}
}

// A cut excuses the pod's share of the calls to its Service, all of a held connection, and those to the pod's address until they recover.
func TestCutOff(t *testing.T) {
	s := &suite{Options: Options{Rate: 10}, clients: clients("ns", 10)}
	excuses := s.cutOff(strict, at(0), at(2000))
	// Two clients with ten calls a second each, for the cut and as long again, and one of two pods.
	if got, want := excuses[0].most, 10*4*2/2+1; got != want || !excuses[0].until.Equal(at(4000)) {
		t.Errorf("%d calls until %s, want %d until %s", got, excuses[0].until, want, at(4000))
	}
	if excuses[1].most != 0 || !excuses[2].until.IsZero() {
		t.Errorf("of a held connection %d, by address until %s", excuses[1].most, excuses[2].until)
	}
	held := excuse{of: heldBy(server)}
	direct := excuse{of: directlyTo(server)}
	for _, c := range s.clients {
		if held.of(c.caller) != (c.Kind == api.Echo && !c.Fresh) || direct.of(c.caller) != strings.Contains(c.Target, "server-each") {
			t.Errorf("%s: held %t, direct %t", c.name, held.of(c.caller), direct.of(c.caller))
		}
	}
}
