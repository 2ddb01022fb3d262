// Package figures computes shares and renders tables. It is pure: no cluster, clock or terminal.
package figures

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"unicode/utf8"
)

// Share is what one pod got of all calls.
type Share struct {
	Pod     string
	Calls   int
	Percent float64
}

// Shares of each pod, by name.
func Shares(calls map[string]int) []Share {
	total := 0
	for _, n := range calls {
		total += n
	}
	shares := make([]Share, 0, len(calls))
	for _, pod := range slices.Sorted(maps.Keys(calls)) {
		shares = append(shares, Share{Pod: pod, Calls: calls[pod], Percent: 100 * float64(calls[pod]) / float64(max(1, total))})
	}
	return shares
}

// Even is an error unless exactly want pods were called and each got its fair share within
// tolerance, in percentage points.
func Even(calls map[string]int, want int, tolerance float64) error {
	shares := Shares(calls)
	if len(shares) != want {
		return fmt.Errorf("%d pods were called, want %d: %s", len(shares), want, Line(calls))
	}
	for _, s := range shares {
		if fair := 100 / float64(want); math.Abs(s.Percent-fair) > tolerance {
			return fmt.Errorf("%s got %.1f %%, want %.1f ± %g %%: %s", s.Pod, s.Percent, fair, tolerance, Line(calls))
		}
	}
	return nil
}

// AllOnOne is an error unless one pod got every call.
func AllOnOne(calls map[string]int) error {
	if len(calls) != 1 {
		return fmt.Errorf("%d pods were called, want all calls on one: %s", len(calls), Line(calls))
	}
	return nil
}

// Spread is the largest distance from a fair share among want pods, in percentage points.
func Spread(calls map[string]int, want int) float64 {
	shares, worst := Shares(calls), 0.0
	if len(shares) < want {
		worst = 100 / float64(want) // somebody got nothing
	}
	for _, s := range shares {
		worst = max(worst, math.Abs(s.Percent-100/float64(want)))
	}
	return worst
}

// Line is the shares in one line.
func Line(calls map[string]int) string {
	var parts []string
	for _, s := range Shares(calls) {
		parts = append(parts, fmt.Sprintf("%s %.1f %% (%d)", s.Pod, s.Percent, s.Calls))
	}
	if len(parts) == 0 {
		return "no calls"
	}
	return strings.Join(parts, ", ")
}

// Bar draws percent of width cells, in eighths; anything above nothing shows.
func Bar(percent float64, width int) string {
	eighths := int(math.Round(min(100, max(0, percent)) / 100 * float64(width) * 8))
	if percent > 0 {
		eighths = max(1, eighths)
	}
	bar := strings.Repeat("█", eighths/8)
	if rest := eighths % 8; rest > 0 {
		bar += string([]rune("▏▎▍▌▋▊▉")[rest-1])
	}
	return bar
}

// Table renders rows under a head with aligned columns, without trailing blanks. A row of no cells
// is a rule.
func Table(head []string, rows [][]string) string {
	widths := make([]int, len(head))
	for _, row := range append([][]string{head}, rows...) {
		for i, cell := range row {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	rule := make([]string, len(head))
	for i, w := range widths {
		rule[i] = strings.Repeat("─", w)
	}
	for _, row := range slices.Concat([][]string{head, nil}, rows) {
		if len(row) == 0 {
			row = rule
		}
		var line strings.Builder
		for i, cell := range row {
			line.WriteString(cell + strings.Repeat(" ", widths[i]-utf8.RuneCountInString(cell)+2))
		}
		b.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return b.String()
}
