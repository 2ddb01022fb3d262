package main

import (
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
)

func TestReportComparison(t *testing.T) {
	ours, others := load.Samples{}, load.Samples{}
	ours.AddAll(load.Samples{"HTTP/1.1 1 KB": {mizzen: {{CPU: 102}}}})
	others.AddAll(load.Samples{"HTTP/1.1 1 KB": {mizzen: {{CPU: 100}}}, "TCP 64 B": {mizzen: {{CPU: 50}}}})
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
