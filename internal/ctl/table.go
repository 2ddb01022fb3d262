package ctl

import (
	"io"
	"os"
	"strings"
	"unicode/utf8"

	"golang.org/x/term"
)

// colour is an ANSI code.
type colour string

const (
	bold   colour = "\x1b[1m"
	dim    colour = "\x1b[2m"
	red    colour = "\x1b[31m"
	green  colour = "\x1b[32m"
	yellow colour = "\x1b[33m"
	off           = "\x1b[0m"
)

// paint says whether to write colours.
type paint bool

// paintFor returns true for terminals, unless NO_COLOR has a value (https://no-color.org).
func paintFor(out io.Writer) paint {
	f, ok := out.(*os.File)
	return paint(ok && term.IsTerminal(int(f.Fd())) && os.Getenv("TERM") != "dumb" && os.Getenv("NO_COLOR") == "")
}

func (p paint) in(c colour, text string) string {
	if !p || c == "" || text == "" {
		return text
	}
	return string(c) + text + off
}

// clear begins a table in the place of the one before, or below it where there is no terminal.
func (p paint) clear() string {
	if p {
		return "\x1b[H\x1b[2J"
	}
	return "\n"
}

// cell is a one-line text in a table.
type cell struct {
	text   string
	colour colour
}

// table aligns columns by characters, which text/tabwriter cannot do with colours.
type table struct{ rows [][]cell }

func (t *table) row(cells ...cell) { t.rows = append(t.rows, cells) }

// block adds rows from columns of different lengths, side by side.
func (t *table) block(columns ...[]cell) {
	height := 0
	for _, c := range columns {
		height = max(height, len(c))
	}
	for i := range height {
		row := make([]cell, len(columns))
		for j, c := range columns {
			if i < len(c) {
				row[j] = c[i]
			}
		}
		t.row(row...)
	}
}

func (t *table) String(p paint) string {
	var widths []int
	for _, row := range t.rows {
		for i, c := range row {
			if i == len(widths) {
				widths = append(widths, 0)
			}
			widths[i] = max(widths[i], utf8.RuneCountInString(c.text))
		}
	}
	var b strings.Builder
	for _, row := range t.rows {
		last := len(row)
		for last > 0 && row[last-1].text == "" {
			last--
		}
		for i, c := range row[:last] {
			b.WriteString(p.in(c.colour, c.text))
			if i < last-1 {
				b.WriteString(strings.Repeat(" ", widths[i]-utf8.RuneCountInString(c.text)+2))
			}
		}
		b.WriteString("\n")
	}
	return b.String()
}

// plain returns cells without colour.
func plain(texts ...string) []cell {
	out := make([]cell, len(texts))
	for i, t := range texts {
		out[i] = cell{text: t}
	}
	return out
}
