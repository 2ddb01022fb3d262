package main

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/plot"
)

// writeDocs replaces what lies between "<!-- LABEL begin" and "<!-- LABEL end -->" in a Markdown file,
// and writes the plots that it shows into the directory of the file's name.
func writeDocs(path, label string, r *report) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	dir := strings.TrimSuffix(path, ".md")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	var body bytes.Buffer
	r.markdown(&body)
	for _, c := range r.charts() {
		name := label + "-" + c.file + ".svg"
		if err := os.WriteFile(filepath.Join(dir, name), c.SVG(), 0o644); err != nil {
			return err
		}
		fmt.Fprintf(&body, "![%s](%s/%s)\n\n", c.Title, filepath.Base(dir), name)
	}
	text, err := between(string(old), label, body.String())
	if err != nil {
		return fmt.Errorf("%s: %w", path, err)
	}
	return os.WriteFile(path, []byte(text), 0o644)
}

func between(text, label, body string) (string, error) {
	begin, end := "<!-- "+label+" begin", "<!-- "+label+" end -->"
	head, rest, ok := strings.Cut(text, begin)
	if !ok {
		return "", fmt.Errorf("no marker %q", begin)
	}
	_, tail, ok := strings.Cut(rest, end)
	if !ok {
		return "", fmt.Errorf("no marker %q behind %q", end, begin)
	}
	return head + begin + ": made by test/bench/controlplane -docs; do not edit -->\n\n" + body + end + tail, nil
}

func (r *report) markdown(b *bytes.Buffer) {
	fmt.Fprintf(b, "Commit %s, %s, %d CPUs, %s, %d endpoints a Service, each proxy uses %d Services.\n\n",
		r.Commit, r.Date.Format("2 January 2006"), r.CPUs, r.GoVersion, r.Endpoints, r.Used)
	for _, t := range r.tables() {
		b.WriteString(t.markdown())
	}
	if r.Churn != nil {
		fmt.Fprintf(b, "%s\n\n", r.Churn)
	}
	for _, c := range r.measured() {
		if c.Services == istiodServices && c.Proxies == istiodProxies {
			b.WriteString(c.compared().markdown())
		}
	}
	if laws := r.laws(); len(laws.rows) > 0 {
		b.WriteString(laws.markdown())
	}
}

// istiod was measured with these, and where the table says so with 200 proxies: main of August 2026, delta ADS,
// no Sidecar resource, a machine of the same kind that the load generator shared.
const istiodServices, istiodProxies = 1000, 500

func (c cell) compared() table {
	n := float64(c.Change.Count)
	return table{
		head: []string{"1,000 Services, 500 proxies", "istiod", "Mizzen"},
		rows: [][]string{
			{"a fresh proxy is sent", "2,004 KB, 2,012 resources", kb(c.Fresh.Bytes) + " KB, " + num(c.Fresh.Resources) + " resources"},
			{"all in sync after", "18.4 s", ms(c.Fresh.Sync.Max)},
			{"CPU for it", "26.2 s", num(c.Fresh.CPU) + " s"},
			{"resident, and at the peak", "687 MB, 859 MB", num(c.Fresh.AfterMB) + " MB, " + num(c.Fresh.PeakMB) + " MB"},
			{"a changed endpoint goes to", "every proxy", num(float64(c.Change.Messages["EDS"])/n) + " proxies: those that use the Service"},
			{"and arrives after, p50, p99", "211 ms, 230 ms (200 proxies)", ms(c.Change.Latency.P50) + ", " + ms(c.Change.Latency.P99)},
			{"a new Service costs each proxy", "504 KB", num(c.NewService.Bytes) + " bytes if it does not call it"},
			{"and arrives after, p50", "966 ms (200 proxies)", ms(c.NewService.Latency.P50) + " at a proxy that calls it"},
			{"CPU for it", "1.3 s (200 proxies)", num(c.NewService.CPU) + " s"},
		},
	}
}

func (t table) markdown() string {
	var b strings.Builder
	rule := slices.Repeat([]string{"---"}, len(t.head))
	for _, row := range slices.Concat([][]string{t.head, rule}, t.rows) {
		b.WriteString("| " + strings.Join(row, " | ") + strings.Repeat(" |", len(t.head)-len(row)+1) + "\n")
	}
	return b.String() + "\n"
}

type chart struct {
	plot.Chart
	file string
}

func (r *report) charts() []chart {
	cells := r.measured()
	services := func(c cell) int { return c.Services }
	proxies := func(c cell) int { return c.Proxies }
	return []chart{
		{file: "sync", Chart: plot.Chart{Title: "All proxies connect at once: the last one is in sync", X: "proxies", Y: "ms",
			Lines: lines(cells, services, "%d Services", func(c cell) plot.Point { return plot.Point{X: float64(c.Proxies), Y: c.Fresh.Sync.Max} })}},
		{file: "memory", Chart: plot.Chart{Title: "Peak of resident memory of the control plane", X: "Services × proxies", Y: "MB",
			Lines: lines(cells, services, "%d Services", func(c cell) plot.Point {
				return plot.Point{X: float64(c.Services * c.Proxies), Y: c.Fresh.PeakMB}
			})}},
		{file: "bytes", Chart: plot.Chart{Title: "What a fresh proxy is sent", X: "Services", Y: "KB",
			Lines: lines(cells, proxies, "%d proxies", func(c cell) plot.Point { return plot.Point{X: float64(c.Services), Y: c.Fresh.Bytes / 1000} })}},
	}
}

// lines has one line for each value of key.
func lines(cells []cell, key func(cell) int, name string, point func(cell) plot.Point) []plot.Line {
	var out []plot.Line
	var keys []int
	for _, c := range cells {
		i := slices.Index(keys, key(c))
		if i < 0 {
			i = len(keys)
			keys = append(keys, key(c))
			out = append(out, plot.Line{Name: fmt.Sprintf(name, key(c))})
		}
		out[i].Points = append(out[i].Points, point(c))
	}
	return out
}
