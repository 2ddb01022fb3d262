package chaos

import (
	"fmt"
	"iter"
	"math/rand/v2"
	"slices"
	"strings"
)

// step is one fault of a plan. draw decides the rest: which pod, how long, and so on.
type step struct {
	fault string
	draw  uint64
}

// rand returns the random numbers of the step.
func (s step) rand() *rand.Rand { return rand.New(rand.NewPCG(s.draw, 0)) }

// plan is an endless order of these faults. It goes in rounds, each of which has every fault once, and no fault comes twice in a row
// unless it is the only one. The same seed and names give the same plan.
func plan(seed uint64, names []string) iter.Seq[step] {
	return func(yield func(step) bool) {
		if len(names) == 0 {
			return
		}
		r := rand.New(rand.NewPCG(seed, 0))
		order, last := slices.Sorted(slices.Values(names)), ""
		for {
			r.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
			if n := len(order); n > 1 && order[0] == last {
				order[0], order[n-1] = order[n-1], order[0]
			}
			for _, name := range order {
				if !yield(step{fault: name, draw: r.Uint64()}) {
					return
				}
			}
			last = order[len(order)-1]
		}
	}
}

// round names the faults of the first round of a plan.
func round(seed uint64, names []string) []string {
	var out []string
	for s := range plan(seed, names) {
		if len(out) == len(names) {
			break
		}
		out = append(out, s.fault)
	}
	return out
}

// choose returns the faults of these names, or all if none is given.
func choose(all []fault, only []string) ([]fault, error) {
	for i, name := range only {
		if !slices.ContainsFunc(all, func(f fault) bool { return f.name == name }) {
			return nil, fmt.Errorf("fault %q: want some of %s", name, strings.Join(namesOf(all), ", "))
		}
		if slices.Contains(only[:i], name) {
			return nil, fmt.Errorf("fault %q: want each once", name)
		}
	}
	if len(only) == 0 {
		return all, nil
	}
	return slices.DeleteFunc(slices.Clone(all), func(f fault) bool { return !slices.Contains(only, f.name) }), nil
}

func namesOf(faults []fault) []string {
	names := make([]string, len(faults))
	for i, f := range faults {
		names[i] = f.name
	}
	return names
}
