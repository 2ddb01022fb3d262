// Package plot draws lines on two logarithmic axes, as SVG: on them a power law is a straight line and
// its exponent the slope.
package plot

import (
	"bytes"
	"fmt"
	"html"
	"maps"
	"math"
	"slices"
	"strconv"
)

// Chart is a drawing. Points with a coordinate of zero or less cannot be shown and are left out.
type Chart struct {
	Title, X, Y string
	Lines       []Line
}

// Line is a series of points, in the order in which they are joined.
type Line struct {
	Name   string
	Points []Point
}

// Point is one measurement.
type Point struct{ X, Y float64 }

const (
	width, height            = 720, 440
	left, right, top, bottom = 80, 160, 44, 56
	decade                   = 10.0
)

// colours can be told apart with any colour vision (Okabe and Ito).
var colours = []string{"#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9"}

// SVG renders the chart.
func (c Chart) SVG() []byte {
	x, y := c.axes()
	var b bytes.Buffer
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="#fff"/>`+"\n", width, height)
	text(&b, left, top-20, "start", 15, c.Title)
	text(&b, (left+width-right)/2, height-14, "middle", 12, c.X)
	fmt.Fprintf(&b, `<text x="18" y="%d" transform="rotate(-90 18 %[1]d)" text-anchor="middle">%s</text>`+"\n", (top+height-bottom)/2, html.EscapeString(c.Y))
	grid(&b, x, y)
	for i, line := range c.Lines {
		draw(&b, line, colours[i%len(colours)], x, y)
		text(&b, width-right+14, float64(top+10+20*i), "start", 12, "■ "+line.Name, colours[i%len(colours)])
	}
	b.WriteString("</svg>\n")
	return b.Bytes()
}

// axis maps values from low to high to pixels.
type axis struct {
	low, high, from, to float64
	ticks               []float64
}

func (a axis) at(v float64) float64 {
	return a.from + (a.to-a.from)*math.Log(v/a.low)/math.Log(a.high/a.low)
}

// axes span the points: x has a tick at each value, y at 1, 2 and 5 of each decade.
func (c Chart) axes() (x, y axis) {
	xs, ys := map[float64]bool{}, map[float64]bool{}
	for _, line := range c.Lines {
		for _, p := range line.shown() {
			xs[p.X], ys[p.Y] = true, true
		}
	}
	x = axis{from: left, to: width - right, low: 1, high: decade, ticks: slices.Sorted(maps.Keys(xs))}
	y = axis{from: height - bottom, to: top, low: 1, high: decade}
	if len(xs) > 0 {
		const margin = 1.15
		x.low, x.high = x.ticks[0]/margin, x.ticks[len(x.ticks)-1]*margin
		y.low, y.high = slices.Min(slices.Collect(maps.Keys(ys)))/margin, slices.Max(slices.Collect(maps.Keys(ys)))*margin
	}
	for power := math.Pow(decade, math.Floor(math.Log10(y.low))); power < y.high; power *= decade {
		for _, v := range []float64{power, 2 * power, 5 * power} {
			if v >= y.low && v <= y.high {
				y.ticks = append(y.ticks, v)
			}
		}
	}
	return x, y
}

func (l Line) shown() []Point {
	return slices.DeleteFunc(slices.Clone(l.Points), func(p Point) bool { return p.X <= 0 || p.Y <= 0 })
}

func grid(b *bytes.Buffer, x, y axis) {
	for _, v := range x.ticks {
		fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1f" stroke="#ddd"/>`+"\n", x.at(v), y.from, y.to)
		text(b, x.at(v), y.from+18, "middle", 12, number(v))
	}
	for _, v := range y.ticks {
		fmt.Fprintf(b, `<path d="M%.1f %.1fH%.1f" stroke="#ddd"/>`+"\n", x.from, y.at(v), x.to)
		text(b, x.from-8, y.at(v)+4, "end", 12, number(v))
	}
	fmt.Fprintf(b, `<path d="M%.1f %.1fV%.1fH%.1f" fill="none" stroke="#444"/>`+"\n", x.from, y.to, y.from, x.to)
}

func draw(b *bytes.Buffer, line Line, colour string, x, y axis) {
	path := ""
	for i, p := range line.shown() {
		path += fmt.Sprintf("%c%.1f %.1f", "ML"[min(i, 1)], x.at(p.X), y.at(p.Y))
		fmt.Fprintf(b, `<circle cx="%.1f" cy="%.1f" r="3.5" fill="%s"/>`+"\n", x.at(p.X), y.at(p.Y), colour)
	}
	fmt.Fprintf(b, `<path d="%s" fill="none" stroke="%s" stroke-width="2"/>`+"\n", path, colour)
}

func text(b *bytes.Buffer, x, y float64, anchor string, size int, s string, colour ...string) {
	fill := "#222"
	if len(colour) > 0 {
		fill = colour[0]
	}
	fmt.Fprintf(b, `<text x="%.1f" y="%.1f" text-anchor="%s" font-size="%d" fill="%s">%s</text>`+"\n", x, y, anchor, size, fill, html.EscapeString(s))
}

// number groups thousands: 10,000.
func number(v float64) string {
	s := strconv.FormatFloat(v, 'g', 6, 64)
	if v < 1000 || v >= 1e6 {
		return s
	}
	return s[:len(s)-3] + "," + s[len(s)-3:]
}
