package transparency

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

// tries is how often an exchange is made before its difference counts.
const tries = 3

// only narrows the test, for who looks into one exchange.
var only = flag.String("exchanges", ".*", "make only the exchanges of which the whole name matches this regular expression")

// exchanges are all that is tried.
func exchanges() []exchange {
	return slices.Concat(tcpExchanges(), tcpEnds(), tcpFirstBytes(), tlsExchanges(), http1Exchanges(), http1Ends(), http2Exchanges(), grpcExchanges(), lostExchanges(), reportExchanges())
}

// ways are the layouts and protocols in which an exchange is tried.
func (x exchange) ways() []way {
	var out []way
	for _, l := range layouts {
		for _, p := range l.protocols {
			if l.lost == x.lost && slices.Contains(x.protocols, p) {
				out = append(out, way{l.name, p})
			}
		}
	}
	return out
}

// way is a layout with the protocol of the port.
type way struct {
	layout   string
	protocol protocol
}

func (w way) String() string { return fmt.Sprintf("%s, %s", w.layout, w.protocol) }

// outcome is what both sides see.
type outcome struct {
	exchange
	direct string
	// seen is what comes out with sidecars, where it is something else.
	seen map[way]string
}

// Every exchange comes out the same with sidecars as without, but for the known differences.
func TestNothingElseChanges(t *testing.T) {
	n := start(t)
	n.layoutsHold(t)
	began := time.Now()
	var outcomes, lost []outcome
	var losing sync.WaitGroup
	losing.Go(func() {
		var err error
		if lost, err = n.lose(t.Context()); err != nil {
			t.Error(err)
		}
	})
	for _, heavy := range []bool{false, true} { // what takes the machine's time would make the others wait
		some := slices.DeleteFunc(exchanges(), func(x exchange) bool {
			return x.lost || (x.weight > 1) != heavy || !whole(*only).MatchString(x.name)
		})
		outcomes = append(outcomes, n.makeAll(t.Context(), some)...)
		t.Logf("%d exchanges, %s", len(some), time.Since(began).Round(time.Second))
	}
	t.Logf("all exchanges took %s", time.Since(began).Round(time.Second))
	losing.Wait()
	outcomes = append(outcomes, lost...)
	n.makeAgain(t, outcomes)
	for _, o := range outcomes {
		if strings.Contains(o.direct, trouble) {
			t.Errorf("%s does not come about without the mesh:\n%s", o.name, o.direct)
			continue
		}
		for _, group := range o.groups() {
			t.Errorf("%s differs with sidecars, which no entry of the table of differences says (-without, +with)\n%s\n%s",
				o.name, group.ways, cmp.Diff(o.direct, group.seen))
		}
	}
	stale(t, outcomes)
}

// stale complains of entries of the table that are not true any more.
func stale(t *testing.T, outcomes []outcome) {
	for i := range differences {
		d := &differences[i]
		var same []string
		named, differ := 0, 0
		for _, o := range outcomes {
			for _, w := range o.ways() {
				if known(o.name, w) != d {
					continue
				}
				named++
				if _, ok := o.seen[w]; ok {
					differ++
				} else {
					same = append(same, "    "+o.name+" — "+w.String())
				}
			}
		}
		switch {
		case named == 0 && *only != ".*":
		case named == 0:
			t.Errorf("%q: the table of differences has it, and no exchange shows it", d.what)
		case differ == 0:
			t.Errorf("%q is gone: take it out of the table of differences", d.what)
		case len(same) > 0 && !d.sometimes:
			t.Errorf("%q: the table of differences says too much, these come out the same:\n%s", d.what, strings.Join(same, "\n"))
		}
	}
}

// makeAll makes all exchanges in all ways.
func (n *network) makeAll(ctx context.Context, exchanges []exchange) []outcome {
	out := make([]outcome, len(exchanges))
	var wg sync.WaitGroup
	var mu sync.Mutex
	for i, x := range exchanges {
		out[i] = outcome{exchange: x, seen: map[way]string{}}
		wg.Go(func() {
			want := n.make(ctx, x, direct, x.protocols[0], "")
			out[i].direct = want
			if strings.Contains(want, trouble) {
				return
			}
			var ways sync.WaitGroup
			for _, w := range x.ways() {
				ways.Go(func() {
					got := n.make(ctx, x, layoutNamed(w.layout), w.protocol, want)
					if got == want {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					out[i].seen[w] = got
				})
			}
			ways.Wait()
		})
	}
	wg.Wait()
	return out
}

// makeAgain makes once more, one after the other, what comes out otherwise for no known reason, or the same although it is known to
// differ: a machine that has no time makes ends of connections late, and what is asked is whether they differ.
func (n *network) makeAgain(t *testing.T, outcomes []outcome) {
	for _, o := range outcomes {
		for w := range o.seen {
			if o.lost || known(o.name, w) != nil {
				continue
			}
			t.Logf("%s — %s is made again", o.name, w)
			if got := n.make(t.Context(), o.exchange, layoutNamed(w.layout), w.protocol, o.direct); got == o.direct {
				delete(o.seen, w)
			} else {
				o.seen[w] = got
			}
		}
		for _, w := range o.missing() {
			t.Logf("%s — %s is made again: it came out the same, and is known to differ", o.name, w)
			for range tries {
				if got := n.make(t.Context(), o.exchange, layoutNamed(w.layout), w.protocol, o.direct); got != o.direct {
					o.seen[w] = got
					break
				}
			}
		}
	}
}

// missing are the ways in which an exchange has come out the same although the table says that it always differs.
func (o outcome) missing() []way {
	if o.lost || strings.Contains(o.direct, trouble) {
		return nil
	}
	return slices.DeleteFunc(o.ways(), func(w way) bool {
		d := known(o.name, w)
		_, differs := o.seen[w]
		return d == nil || d.sometimes || differs
	})
}

type group struct{ ways, seen string }

// groups are the ways of unknown differences that come out alike.
func (o outcome) groups() []group {
	byText := map[string][]string{}
	for w, text := range o.seen {
		if known(o.name, w) != nil {
			continue
		}
		byText[text] = append(byText[text], "    "+w.String())
	}
	var out []group
	for text, ways := range byText {
		slices.Sort(ways)
		out = append(out, group{strings.Join(ways, "\n"), text})
	}
	slices.SortFunc(out, func(a, b group) int { return strings.Compare(a.ways, b.ways) })
	return out
}
