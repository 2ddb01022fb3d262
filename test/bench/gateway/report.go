package main

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

// figure is a line of a report.
type figure struct {
	what, got string
	// want is empty where nothing is wanted.
	want   string
	missed bool
}

// most is a figure that should be so much at most.
func most(what string, got, want time.Duration) figure {
	return figure{what, show(got), "≤ " + show(want), got > want}
}

// atMost is the same for a number.
func atMost(what string, got, want int) figure {
	return figure{what, fmt.Sprint(got), fmt.Sprintf("≤ %d", want), got > want}
}

// none is a number that should be 0.
func none(what string, got int, of string) figure {
	return figure{what, fmt.Sprintf("%d%s", got, of), "0", got > 0}
}

// plain is a figure that is only told.
func plain(what, got string) figure { return figure{what: what, got: got} }

// writeFigures writes a table in Markdown.
func writeFigures(out io.Writer, title string, figures []figure) error {
	rows := [][]string{}
	for _, f := range figures {
		if f.missed {
			f.got += ", missed"
		}
		rows = append(rows, []string{f.what, f.got, f.want})
	}
	_, err := io.WriteString(out, "\n"+table([]string{title, "measured", "wanted"}, rows))
	return err
}

// table is one in Markdown.
func table(head []string, rows [][]string) string {
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(head)
	line(slices.Repeat([]string{"---"}, len(head)))
	for _, r := range rows {
		line(r)
	}
	return b.String()
}

// show rounds a time to three digits.
func show(d time.Duration) string {
	switch {
	case d >= 10*time.Second:
		return fmt.Sprintf("%.1f s", d.Seconds())
	case d >= time.Second:
		return fmt.Sprintf("%.2f s", d.Seconds())
	case d >= 100*time.Millisecond || d == 0:
		return fmt.Sprintf("%d ms", d.Milliseconds())
	}
	return fmt.Sprintf("%.1f ms", float64(d)/1e6)
}

// quantile is the least time that so much of all are at most.
func quantile(times []time.Duration, q float64) time.Duration {
	if len(times) == 0 {
		return 0
	}
	sorted := slices.Sorted(slices.Values(times))
	return sorted[min(len(sorted)-1, max(0, int(q*float64(len(sorted))+0.5)-1))]
}
