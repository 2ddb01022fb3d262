package chaos

import (
	"cmp"
	"slices"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// caller is what an excuse has to know of a client.
type caller struct {
	name string
	// pod makes the calls.
	pod string
	// servers are the Deployments of which a pod may answer.
	servers []string
	// direct says that the client calls addresses of pods, not that of a Service: nobody can send its call to another pod.
	direct bool
	// held says that the client has one TCP connection, which ends with its server.
	held bool
	// onTheWay is how long the end of a connection takes to reach the client on a busy machine.
	onTheWay time.Duration
}

// Bounds of caller.onTheWay: what the slowest hundredth of the calls takes beyond the work of the server, and not more than a quarter
// of a second, however slow everything is.
const minOnTheWay, maxOnTheWay = 25 * time.Millisecond, 250 * time.Millisecond

// onTheWay estimates the delay from the calls of the same run.
func onTheWay(p99, work time.Duration) time.Duration {
	return min(max(p99-work, minOnTheWay), maxOnTheWay)
}

// excuse says which calls may fail on account of a fault: those of some clients that had begun by until and had not ended at from.
type excuse struct {
	why string
	of  func(caller) bool
	// from and until are the bounds. Without until they may fail until the clients have recovered.
	from, until time.Time
	// atOnce says that from and until are one moment, of which a client learns a little later.
	atOnce bool
	// most is how many calls are excused at most; 0 is any number.
	most int
}

func (e excuse) covers(c caller, f api.Failure) bool {
	until := e.until
	if e.atOnce {
		until = until.Add(max(c.onTheWay, minOnTheWay))
	}
	return e.of(c) && !f.At.After(until) && !f.At.Add(f.Elapsed).Before(e.from)
}

// answeredBy selects the clients of which calls may go to a Deployment.
func answeredBy(deployment string) func(caller) bool {
	return func(c caller) bool { return slices.Contains(c.servers, deployment) }
}

// directlyTo selects those of them that call the addresses of its pods.
func directlyTo(deployment string) func(caller) bool {
	return func(c caller) bool { return c.direct && answeredBy(deployment)(c) }
}

// heldBy selects those of them that have one TCP connection.
func heldBy(deployment string) func(caller) bool {
	return func(c caller) bool { return c.held && answeredBy(deployment)(c) }
}

// madeBy selects the clients in a pod.
func madeBy(pod string) func(caller) bool {
	return func(c caller) bool { return c.pod == pod }
}

// failure is a failed call.
type failure struct {
	caller
	api.Failure
	kind, target string
}

// verdict is what came of a failed call: the fault that excuses it and why, or neither.
type verdict struct {
	failure
	fault *event
	why   string
}

// judge finds an excuse for each failed call, in the order of their beginnings. What excuses any number of calls is taken first, so
// that a bounded number is left for those that have nothing else.
func judge(failures []failure, events []*event) []verdict {
	type offer struct {
		*excuse
		of   *event
		left int
	}
	var offers []*offer
	for _, e := range events {
		for i := range e.excuses {
			offers = append(offers, &offer{excuse: &e.excuses[i], of: e, left: e.excuses[i].most})
		}
	}
	slices.SortStableFunc(offers, func(a, b *offer) int { return cmp.Compare(a.most, b.most) })
	failures = slices.Clone(failures)
	slices.SortStableFunc(failures, func(a, b failure) int { return a.At.Compare(b.At) })
	verdicts := make([]verdict, len(failures))
	for i, f := range failures {
		verdicts[i].failure = f
		for _, o := range offers {
			if o.most > 0 && o.left == 0 || !o.covers(f.caller, f.Failure) {
				continue
			}
			o.left--
			verdicts[i].fault, verdicts[i].why = o.of, o.why
			break
		}
	}
	return verdicts
}

// event is a fault that was done.
type event struct {
	name, target string
	// begun is when the fault was about to be done, done when it had been, undone when it had been taken back, and settled when
	// everything had recovered from it. What did not come to pass is zero.
	begun, done, undone, settled time.Time
	excuses                      []excuse
	err                          error
}

// end is the last moment that is known of the event.
func (e *event) end() time.Time {
	for _, t := range []time.Time{e.settled, e.undone, e.done} {
		if !t.IsZero() {
			return t
		}
	}
	return e.begun
}

// near returns the faults that may have to do with a call: those that went on while it did, or had ended so long before at most.
func near(events []*event, f api.Failure, before time.Duration) []*event {
	var out []*event
	for _, e := range events {
		ongoing := e.settled.IsZero()
		if !e.begun.After(f.At.Add(f.Elapsed)) && (ongoing || !e.settled.Add(before).Before(f.At)) {
			out = append(out, e)
		}
	}
	return out
}
