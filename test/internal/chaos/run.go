package chaos

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/mizzen-mesh/mizzen/test/internal/cluster"
)

// Options of a run.
type Options struct {
	// Seed decides the order of the faults, and what each is done to.
	Seed uint64
	// Duration is how long faults are begun.
	Duration time.Duration
	// Rate of each client, in calls a second.
	Rate float64
	// Only are the names of faults; without any, all that are possible, or those that are done soon.
	Only []string
	// Quick leaves out what takes long.
	Quick bool
	// Labels are put on the namespace, for whoever has a way of his own to find it.
	Labels map[string]string
	// Keep leaves the namespace for a look when something does not hold. The next run removes it.
	Keep bool
	// Log is told what goes on.
	Log func(format string, args ...any)
	// Violated is called with the namespace before it is removed, when something does not hold. It may be nil.
	Violated func(ctx context.Context, namespace string)
}

// MaxRate is how many calls a second all clients may make together, and Clients how many there are.
const (
	MaxRate = 300
	Clients = 15
)

// recovery bounds the time until clients that a fault excuses have recovered, after everything else has.
const recovery = time.Minute

// Validate names what is wrong with the options.
func (o Options) Validate() error {
	switch {
	case o.Duration <= 0:
		return fmt.Errorf("duration: %s: want more than 0", o.Duration)
	case o.Rate < 1 || o.Rate*Clients > MaxRate:
		return fmt.Errorf("rate: %g: want 1 to %d calls a second of each of %d clients", o.Rate, MaxRate/Clients, Clients)
	}
	_, err := choose(faults, o.Only)
	return err
}

// suite is a run.
type suite struct {
	*cluster.Cluster
	Options
	image   string
	ns      string
	began   time.Time
	clients []*client
	report  *Report
	watch   *watcher
}

// Run does harm to a cluster in which Mizzen is installed, and reports what came of it. An error says that the run itself failed, with
// the report of what was until then. Namespaces of this and of earlier runs are removed.
func Run(ctx context.Context, c *cluster.Cluster, o Options) (*Report, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	s := &suite{Cluster: c, Options: o, image: cmp.Or(os.Getenv("MIZZEN_TEST_IMAGE"), "mizzen-test/app:dev"), ns: fmt.Sprintf("mizzen-chaos-%06x", rand.IntN(1<<24))}
	s.report = &Report{options: o, began: time.Now()}
	if err := s.clear(ctx); err != nil {
		return nil, fmt.Errorf("namespaces of earlier runs: %w", err)
	}
	err := s.run(ctx)
	for _, c := range s.clients {
		s.report.tallies = append(s.report.tallies, c.tally())
	}
	bad := err != nil || len(s.report.Violations()) > 0
	ctx = context.WithoutCancel(ctx) // whatever happened, nothing is left
	if bad && s.Violated != nil {
		s.Violated(ctx, s.ns)
	}
	if bad && s.Keep {
		s.Log("namespace %s is kept", s.ns)
		return s.report, err
	}
	return s.report, errors.Join(err, s.end(ctx))
}

// run is all between the beginning and the end.
func (s *suite) run(ctx context.Context) error {
	if err := s.setUp(ctx); err != nil {
		return fmt.Errorf("set up: %w", err)
	}
	s.clients = clients(s.ns, s.Rate)
	if err := s.reachable(ctx); err != nil {
		return err
	}
	possible, err := s.possible(ctx)
	if err != nil {
		return err
	}
	before, err := s.events(ctx)
	if err != nil {
		return err
	}
	s.began = time.Now()
	s.report.began = s.began
	s.watch = s.startWatch(ctx)
	defer s.watch.stop()
	if err := s.start(ctx); err != nil {
		return err
	}
	if err := s.calm(ctx, recovery, nobody); err != nil {
		return fmt.Errorf("before the first fault: %w", err)
	}
	s.Log("%d clients make %g calls a second each, in namespace %s", len(s.clients), s.Rate, s.ns)
	s.Log("seed %d; the first round of faults: %s", s.Seed, strings.Join(round(s.Seed, namesOf(possible)), ", "))
	for st := range plan(s.Seed, namesOf(possible)) {
		if time.Since(s.began) >= s.Duration || ctx.Err() != nil {
			break
		}
		f := possible[slices.IndexFunc(possible, func(f fault) bool { return f.name == st.fault })]
		e := s.step(ctx, f, st)
		s.report.events = append(s.report.events, e)
		if e.err != nil {
			s.Log("%s %s: %v", e.name, e.target, e.err)
			break // what comes after it would say nothing
		}
		s.Log("%s %s: settled after %s", e.name, e.target, short(e.settled.Sub(e.begun)))
	}
	err = s.rest(context.WithoutCancel(ctx), func(*client) bool { return true })
	s.watch.stop()
	s.report.checks = append(s.report.checks, s.watch.checks()...)
	s.report.checks = append(s.report.checks, s.eventCheck(context.WithoutCancel(ctx), before))
	return errors.Join(err, ctx.Err())
}

func nobody(caller) bool { return false }

// possible are the faults that are asked for and can be done here. What cannot is in the report.
func (s *suite) possible(ctx context.Context) ([]fault, error) {
	chosen, err := choose(faults, s.Only)
	if err != nil {
		return nil, err
	}
	reasons := map[need]string{}
	var out []fault
	for _, f := range chosen {
		if s.Quick && len(s.Only) == 0 && !f.quick {
			continue
		}
		why := ""
		for _, n := range f.needs {
			reason, known := reasons[n]
			if !known {
				if reason, err = s.lacks(ctx, n); err != nil {
					return nil, err
				}
				reasons[n] = reason
			}
			why = cmp.Or(why, reason)
		}
		if why != "" {
			s.report.impossible = append(s.report.impossible, f.name+": "+why)
			s.Log("not possible here: %s: %s", f.name, why)
			continue
		}
		out = append(out, f)
	}
	if len(out) == 0 {
		return nil, fmt.Errorf("none of the faults is possible here: %v", s.report.impossible)
	}
	return out, nil
}

// step does a fault, takes it back, and waits until everything has recovered.
func (s *suite) step(ctx context.Context, f fault, st step) *event {
	e := &event{name: f.name, begun: time.Now()}
	harm, err := f.do(ctx, s, st.rand())
	e.done = time.Now()
	if harm != nil {
		e.target, e.excuses = harm.target, harm.excuses
	}
	if err != nil {
		e.err = fmt.Errorf("not done: %w", err)
	}
	if harm != nil && harm.undo != nil {
		// What was broken does not stay so, whatever became of the run.
		if err := harm.undo(context.WithoutCancel(ctx)); err != nil {
			e.err = errors.Join(e.err, fmt.Errorf("not taken back: %w", err))
		}
		e.undone = time.Now()
	}
	if e.err == nil && harm != nil && harm.settle != nil {
		if err := harm.settle(ctx); err != nil {
			e.err = fmt.Errorf("not settled: %w", err)
		}
	}
	if e.err == nil {
		e.err = s.recovered(ctx, e)
	}
	now := time.Now()
	for i := range e.excuses {
		if e.excuses[i].until.IsZero() {
			e.excuses[i].until = now
		}
	}
	if e.err == nil {
		e.settled = now
	}
	return e
}

// recovered waits until all sidecars are in sync and all clients make calls, those that were excused, too.
func (s *suite) recovered(ctx context.Context, e *event) error {
	if err := s.synced(ctx); err != nil {
		return err
	}
	if err := s.start(ctx); err != nil { // those that had to rest
		return err
	}
	return s.calm(ctx, recovery, func(c caller) bool {
		return slices.ContainsFunc(e.excuses, func(x excuse) bool { return x.until.IsZero() && x.of(c) })
	})
}

// end removes what the run has made, and looks for what is left of it.
func (s *suite) end(ctx context.Context) error {
	s.Log("removing namespace %s", s.ns)
	if err := s.clear(ctx); err != nil {
		return err
	}
	if s.watch == nil {
		return nil
	}
	checks, err := s.orphans(ctx)
	s.report.checks = append(s.report.checks, checks...)
	return err
}
