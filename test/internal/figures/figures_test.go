package figures

import (
	"strings"
	"testing"
)

func TestEven(t *testing.T) {
	for _, tc := range []struct {
		name      string
		calls     map[string]int
		pods      int
		tolerance float64
		want      string // part of the error; empty is none
	}{
		{"even", map[string]int{"a": 1000, "b": 1000, "c": 1000}, 3, 5, ""},
		{"at the edge", map[string]int{"a": 383, "b": 333, "c": 284}, 3, 5, ""},
		{"past the edge", map[string]int{"a": 390, "b": 330, "c": 280}, 3, 5, "a got 39.0 %"},
		{"too few get too much", map[string]int{"a": 1, "b": 99}, 2, 2, "a got 1.0 %"},
		{"one is missing", map[string]int{"a": 500, "b": 500}, 3, 50, "2 pods were called, want 3"},
		{"one too many", map[string]int{"a": 5, "b": 5, "c": 5}, 2, 50, "3 pods were called, want 2"},
		{"nothing called", nil, 3, 5, "no calls"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			err := Even(tc.calls, tc.pods, tc.tolerance)
			if tc.want == "" && err != nil || tc.want != "" && (err == nil || !strings.Contains(err.Error(), tc.want)) {
				t.Errorf("got %v, want %q", err, tc.want)
			}
		})
	}
}

func TestAllOnOne(t *testing.T) {
	for _, tc := range []struct {
		calls map[string]int
		ok    bool
	}{
		{map[string]int{"a": 3000}, true},
		{map[string]int{"a": 2999, "b": 1}, false},
		{nil, false},
	} {
		if err := AllOnOne(tc.calls); (err == nil) != tc.ok {
			t.Errorf("%v: %v, want ok=%t", tc.calls, err, tc.ok)
		}
	}
}

func TestSpread(t *testing.T) {
	for _, tc := range []struct {
		calls map[string]int
		pods  int
		want  float64
	}{
		{map[string]int{"a": 1, "b": 1}, 2, 0},
		{map[string]int{"a": 3, "b": 1}, 2, 25},
		{map[string]int{"a": 1}, 2, 50},
		{nil, 4, 25},
	} {
		if got := Spread(tc.calls, tc.pods); got != tc.want {
			t.Errorf("%v of %d: %v, want %v", tc.calls, tc.pods, got, tc.want)
		}
	}
}

func TestBar(t *testing.T) {
	for _, tc := range []struct {
		percent float64
		want    string
	}{
		{0, ""}, {0.01, "▏"}, {50, "█████"}, {33.3, "███▍"}, {100, "██████████"}, {140, "██████████"}, {-3, ""},
	} {
		if got := Bar(tc.percent, 10); got != tc.want {
			t.Errorf("%v: %q, want %q", tc.percent, got, tc.want)
		}
	}
}

func TestTable(t *testing.T) {
	got := Table([]string{"pod", "share"}, [][]string{{"a", "33 %"}, {"long-name", "█"}, nil, {"", "x"}})
	want := `pod        share
─────────  ─────
a          33 %
long-name  █
─────────  ─────
           x
`
	if got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}
