package main

import (
	"strings"
	"testing"
)

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

// One request at a time: the batch that was disturbed least counts.
func TestOneByOne(t *testing.T) {
	calls := 0
	if _, err := oneByOne(&layout{}, func() error { calls++; return nil }, 0); err != nil || calls != 100 {
		t.Errorf("%d calls, %v; want one batch of 100", calls, err)
	}
}

func TestReportComparison(t *testing.T) {
	ours, others := samples{}, samples{}
	ours.addAll(samples{"HTTP/1.1 1 KB": {mizzen: {{CPU: 102}}}})
	others.addAll(samples{"HTTP/1.1 1 KB": {mizzen: {{CPU: 100}}}, "TCP 64 B": {mizzen: {{CPU: 50}}}})
	var out strings.Builder
	if err := reportComparison(&out, ours, others); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{"1.02": true, "102": true, "100": true, "TCP": false} {
		if got := strings.Contains(out.String(), text); got != want {
			t.Errorf("%q in the report: %t, want %t:\n%s", text, got, want, &out)
		}
	}
}
