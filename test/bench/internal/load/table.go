package load

import (
	"fmt"
	"io"
	"slices"
)

// Samples are those of each scenario and layout.
type Samples map[string]map[string][]Sample

// Add adds one.
func (s Samples) Add(scenario, layout string, one Sample) {
	if s[scenario] == nil {
		s[scenario] = map[string][]Sample{}
	}
	s[scenario][layout] = append(s[scenario][layout], one)
}

// AddAll adds all of others.
func (s Samples) AddAll(more Samples) {
	for scenario, layouts := range more {
		for layout, list := range layouts {
			for _, one := range list {
				s.Add(scenario, layout, one)
			}
		}
	}
}

// Column is a figure of a table.
type Column struct {
	Title string
	Of    func(Sample) float64
}

// Columns are those of all tables.
var Columns = []Column{
	{"req/s", func(s Sample) float64 { return s.RPS }},
	{"CPU µs/req", func(s Sample) float64 { return s.CPU }},
	{"at rate: CPU µs/req", func(s Sample) float64 { return s.CPUAtRate }},
	{"one by one: CPU µs/req", func(s Sample) float64 { return s.CPUAlone }},
	{"p50 µs", func(s Sample) float64 { return s.P50 }},
	{"p99 µs", func(s Sample) float64 { return s.P99 }},
}

// Head begins a table.
func Head(w io.Writer) {
	fmt.Fprint(w, "scenario\tlayout\t")
	for _, c := range Columns {
		fmt.Fprintf(w, "%s\t", c.Title)
	}
	fmt.Fprintln(w)
}

// Row prints one, unless something that it needs was not measured.
func Row(w io.Writer, scenario, layout string, cell func(Column) string, needs ...[]Sample) {
	for _, n := range needs {
		if len(n) == 0 {
			return
		}
	}
	fmt.Fprintf(w, "%s\t%s\t", scenario, layout)
	for _, c := range Columns {
		fmt.Fprintf(w, "%s\t", cell(c))
	}
	fmt.Fprintln(w)
}

// Spread is the median and half the way from the least to the most, in per cent.
func Spread(list []Sample, c Column) string {
	v := values(list, c)
	m := median(v)
	if m == 0 {
		return "-"
	}
	return fmt.Sprintf("%.0f ±%2.0f%%", m, (v[len(v)-1]-v[0])/2/m*100)
}

// Ratio is that of the medians.
func Ratio(of, base []Sample, c Column) string {
	b := median(values(base, c))
	if b == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f     ", median(values(of, c))/b)
}

func values(list []Sample, c Column) []float64 {
	var out []float64
	for _, s := range list {
		out = append(out, c.Of(s))
	}
	slices.Sort(out)
	return out
}

func median(sorted []float64) float64 {
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}
