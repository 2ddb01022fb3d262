package plot

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"
)

func TestSVG(t *testing.T) {
	for name, c := range map[string]Chart{
		"empty":     {Title: "nothing"},
		"one point": {Lines: []Line{{Name: "a", Points: []Point{{100, 3}}}}},
		"lines": {Title: "a < b & c", Lines: []Line{
			{Name: "a", Points: []Point{{100, 3}, {500, 20}, {2000, 0}}},
			{Name: "b", Points: []Point{{100, 30}, {500, 200}, {2000, 9000}}},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			svg := string(c.SVG())
			for dec := xml.NewDecoder(strings.NewReader(svg)); ; {
				if _, err := dec.Token(); errors.Is(err, io.EOF) {
					break
				} else if err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(svg, "NaN") || strings.Contains(svg, "Inf") {
				t.Errorf("not a number in\n%s", svg)
			}
		})
	}
}

func TestAxis(t *testing.T) {
	a := axis{low: 1, high: 100, from: 0, to: 200}
	if got := a.at(10); got != 100 {
		t.Errorf("10 between 1 and 100 is at %v, want 100", got)
	}
}

func TestNumber(t *testing.T) {
	for v, want := range map[float64]string{0.5: "0.5", 100: "100", 1000: "1,000", 10000: "10,000", 2e6: "2e+06"} {
		if got := number(v); got != want {
			t.Errorf("%v: %q, want %q", v, got, want)
		}
	}
}
