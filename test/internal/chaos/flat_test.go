package chaos

import (
	"testing"
	"time"
)

// values are samples of a measure, evenly over ten minutes.
func values(m measure, list ...float64) []sample {
	var out []sample
	for i, v := range list {
		out = append(out, sample{m, began.Add(time.Duration(i) * 10 * time.Minute / time.Duration(len(list)-1)), v})
	}
	return out
}

// over makes a line of 60 values.
func over(from, to float64) []float64 {
	var out []float64
	for i := range 60 {
		out = append(out, from+(to-from)*float64(i)/59)
	}
	return out
}

func TestFlat(t *testing.T) {
	envoy, controller := measure{"Envoy", resident}, measure{"controller", resident}
	outlier := over(40*mib, 40*mib)
	outlier[58] = 900 * mib
	for _, c := range []struct {
		name       string
		samples    []sample
		length     time.Duration
		judged, ok bool
	}{
		{"steady", values(envoy, over(40*mib, 40*mib)...), 10 * time.Minute, true, true},
		{"grows within the bound", values(envoy, over(40*mib, 60*mib)...), 10 * time.Minute, true, true},
		{"grows", values(envoy, over(40*mib, 90*mib)...), 10 * time.Minute, true, false},
		{"falls", values(envoy, over(90*mib, 40*mib)...), 10 * time.Minute, true, true},
		{"one value is odd", values(envoy, outlier...), 10 * time.Minute, true, true},
		{"a controller may grow more", values(controller, over(40*mib, 90*mib)...), 10 * time.Minute, true, true},
		{"files", values(measure{"Envoy", openFiles}, over(100, 300)...), 10 * time.Minute, true, false},
		{"too short", values(envoy, over(40*mib, 90*mib)...), 4 * time.Minute, false, true},
		{"too few", values(envoy, 40*mib, 40*mib, 90*mib), 10 * time.Minute, false, false},
	} {
		got := flat(c.samples, began, began.Add(c.length))
		if c.name == "too few" {
			if len(got) > 0 && got[0].judged {
				t.Errorf("%s: judged", c.name)
			}
			continue
		}
		if len(got) != 1 || got[0].judged != c.judged || c.judged && got[0].ok != c.ok {
			t.Errorf("%s: %+v, want judged %t, ok %t", c.name, got, c.judged, c.ok)
		}
	}
}

func TestMedian(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   float64
	}{{nil, 0}, {[]float64{3}, 3}, {[]float64{3, 1}, 2}, {[]float64{9, 1, 2}, 2}} {
		if got := median(c.values); got != c.want {
			t.Errorf("median of %v: %v, want %v", c.values, got, c.want)
		}
	}
}
