package load

import "testing"

func TestFigures(t *testing.T) {
	rps := Columns[0]
	of := []Sample{{RPS: 30}, {RPS: 10}, {RPS: 20}}
	base := []Sample{{RPS: 30}, {RPS: 50}}
	for _, tt := range []struct{ what, got, want string }{
		{"median and spread", Spread(of, rps), "20 ±50%"},
		{"of an even number", Spread(base, rps), "40 ±25%"},
		{"nothing measured", Spread([]Sample{{}}, rps), "-"},
		{"ratio of medians", Ratio(of, base, rps), "0.50     "},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	o := Outcome{Latencies: []float64{5, 1, 4, 2, 3}}
	if got := o.Quantile(0.5); got != 3 {
		t.Errorf("p50 of 1 to 5: %v, want 3", got)
	}
}

// One request at a time: the batch that was disturbed least counts.
func TestOneByOne(t *testing.T) {
	calls := 0
	if _, err := oneByOne([]Proxy(nil), func() error { calls++; return nil }, 0); err != nil || calls != 100 {
		t.Errorf("%d calls, %v; want one batch of 100", calls, err)
	}
}
