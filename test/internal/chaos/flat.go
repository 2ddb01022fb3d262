package chaos

import (
	"cmp"
	"maps"
	"slices"
	"time"
)

// measure is what is measured of a role, such as the memory of Envoys.
type measure struct{ role, what string }

// sample is one value of one process.
type sample struct {
	measure
	at    time.Time
	value float64
}

// bound of a measure: at the end it may be a quarter above that after the warm-up, and so much more.
type bound struct {
	more float64
	unit string
}

const (
	// growth is the share by which every measure may grow: processes are started anew, and younger ones are smaller.
	growth = 0.25
	mib    = 1 << 20
	// warmUp is not looked at: pods start, and the first calls make connections.
	warmUp = 30 * time.Second
	// leastFlat is the shortest run of which growth means anything.
	leastFlat = 5 * time.Minute
	// leastSamples is how many values a median needs.
	leastSamples = 3
)

// What is measured.
const (
	resident   = "resident memory"
	allocated  = "allocated memory"
	openFiles  = "open files"
	goroutines = "goroutines"
)

// bounds are by what is measured, and by role where it matters.
var bounds = map[measure]bound{
	{"", resident}:           {16 * mib, "MB"},
	{"", allocated}:          {8 * mib, "MB"},
	{"", openFiles}:          {50, ""},
	{"", goroutines}:         {50, ""},
	{"controller", resident}: {48 * mib, "MB"},
}

func (m measure) bound() bound {
	if b, ok := bounds[m]; ok {
		return b
	}
	return bounds[measure{"", m.what}]
}

// flatness compares the medians of a measure in the first fifth after the warm-up and in the last fifth of the run.
type flatness struct {
	measure
	before, after, most float64
	// judged says that the run was long enough; ok that the measure stayed below its bound.
	judged, ok bool
}

// flat judges all measures of a run, sorted.
func flat(samples []sample, from, to time.Time) []flatness {
	long := to.Sub(from) >= leastFlat
	from = from.Add(min(warmUp, to.Sub(from)/5))
	fifth := to.Sub(from) / 5
	early, late := map[measure][]float64{}, map[measure][]float64{}
	for _, s := range samples {
		switch {
		case s.at.Before(from) || s.at.After(to):
		case s.at.Before(from.Add(fifth)):
			early[s.measure] = append(early[s.measure], s.value)
		case !s.at.Before(to.Add(-fifth)):
			late[s.measure] = append(late[s.measure], s.value)
		}
	}
	byName := func(a, b measure) int { return cmp.Or(cmp.Compare(a.role, b.role), cmp.Compare(a.what, b.what)) }
	var out []flatness
	for _, m := range slices.SortedFunc(maps.Keys(early), byName) {
		f := flatness{measure: m, before: median(early[m]), after: median(late[m])}
		f.most = f.before*(1+growth) + m.bound().more
		f.judged = long && len(early[m]) >= leastSamples && len(late[m]) >= leastSamples
		f.ok = f.after <= f.most
		out = append(out, f)
	}
	return out
}

// median of some values; 0 of none.
func median(values []float64) float64 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(values))
	return (sorted[len(sorted)/2] + sorted[(len(sorted)-1)/2]) / 2
}
