package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/util/sets"
)

// samples are those of each scenario and layout.
type samples map[string]map[string][]sample

func (s samples) add(scenario, layout string, one sample) {
	if s[scenario] == nil {
		s[scenario] = map[string][]sample{}
	}
	s[scenario][layout] = append(s[scenario][layout], one)
}

// column is a figure of the table.
type column struct {
	title string
	of    func(sample) float64
}

var columns = []column{
	{"req/s", func(s sample) float64 { return s.RPS }},
	{"CPU µs/req", func(s sample) float64 { return s.CPU }},
	{"at rate: CPU µs/req", func(s sample) float64 { return s.CPUAtRate }},
	{"one by one: CPU µs/req", func(s sample) float64 { return s.CPUAlone }},
	{"p50 µs", func(s sample) float64 { return s.P50 }},
	{"p99 µs", func(s sample) float64 { return s.P99 }},
}

// report prints for each scenario and layout median and spread of every figure, and Mizzen's ratios.
func report(out io.Writer, all samples) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "scenario\tlayout\t")
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", c.title)
	}
	fmt.Fprintln(w)
	for _, s := range scenarios {
		for _, name := range append([]string{none, httpHTTP, httpL4, mizzen, mizzenMTLS}, all.external()...) {
			row(w, s.name, name, func(c column) string {
				return spread(all[s.name][name], c)
			}, all[s.name][name])
		}
		for _, base := range append([]string{httpHTTP, httpL4}, all.external()...) {
			row(w, s.name, "mizzen : "+base, func(c column) string {
				return ratio(all[s.name][mizzen], all[s.name][base], c)
			}, all[s.name][mizzen], all[s.name][base])
		}
		for _, base := range append([]string{mizzen}, all.external()...) {
			row(w, s.name, mizzenMTLS+" : "+base, func(c column) string {
				return ratio(all[s.name][mizzenMTLS], all[s.name][base], c)
			}, all[s.name][mizzenMTLS], all[s.name][base])
		}
	}
	return w.Flush()
}

// external returns the names of layouts that are not of this program, sorted.
func (s samples) external() []string {
	names := sets.New[string]()
	for _, layouts := range s {
		names.Insert(slices.Collect(maps.Keys(layouts))...)
	}
	return sets.List(names.Delete(none, httpHTTP, httpL4, mizzen, mizzenMTLS))
}

// row prints one, unless something that it needs was not measured.
func row(w io.Writer, scenario, layout string, cell func(column) string, needs ...[]sample) {
	for _, n := range needs {
		if len(n) == 0 {
			return
		}
	}
	fmt.Fprintf(w, "%s\t%s\t", scenario, layout)
	for _, c := range columns {
		fmt.Fprintf(w, "%s\t", cell(c))
	}
	fmt.Fprintln(w)
}

// spread is the median and half the way from the least to the most, in per cent.
func spread(list []sample, c column) string {
	v := values(list, c)
	m := median(v)
	if m == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ±%2.0f%%", m, (v[len(v)-1]-v[0])/2/m*100)
}

func ratio(of, base []sample, c column) string {
	b := median(values(base, c))
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f     ", median(values(of, c))/b)
}

func values(list []sample, c column) []float64 {
	var out []float64
	for _, s := range list {
		out = append(out, c.of(s))
	}
	slices.Sort(out)
	return out
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
