package main

import "testing"

func TestFigures(t *testing.T) {
	rps := columns[0]
	of := []sample{{RPS: 30}, {RPS: 10}, {RPS: 20}}
	base := []sample{{RPS: 30}, {RPS: 50}}
	for _, tt := range []struct{ what, got, want string }{
		{"median and spread", spread(of, rps), "20 ±50%"},
		{"of an even number", spread(base, rps), "40 ±25%"},
		{"nothing measured", spread([]sample{{}}, rps), "-"},
		{"ratio of medians", ratio(of, base, rps), "0.50     "},
	} {
		if tt.got != tt.want {
			t.Errorf("%s: %q, want %q", tt.what, tt.got, tt.want)
		}
	}
	o := outcome{latencies: []float64{5, 1, 4, 2, 3}}
	if got := o.quantile(0.5); got != 3 {
		t.Errorf("p50 of 1 to 5: %v, want 3", got)
	}
}
