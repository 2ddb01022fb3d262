package main

import (
	"io"
	"maps"
	"slices"
	"text/tabwriter"

	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
)

// report prints for each scenario and layout median and spread of every figure, and Mizzen's ratios.
func report(out io.Writer, all load.Samples) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	load.Head(w)
	for _, s := range scenarios {
		for _, name := range append([]string{none, httpHTTP, httpL4, mizzen, mizzenMTLS}, externals(all)...) {
			load.Row(w, s.Name, name, func(c load.Column) string {
				return load.Spread(all[s.Name][name], c)
			}, all[s.Name][name])
		}
		for _, base := range append([]string{httpHTTP, httpL4}, externals(all)...) {
			load.Row(w, s.Name, "mizzen : "+base, func(c load.Column) string {
				return load.Ratio(all[s.Name][mizzen], all[s.Name][base], c)
			}, all[s.Name][mizzen], all[s.Name][base])
		}
		for _, base := range append([]string{mizzen}, externals(all)...) {
			load.Row(w, s.Name, mizzenMTLS+" : "+base, func(c load.Column) string {
				return load.Ratio(all[s.Name][mizzenMTLS], all[s.Name][base], c)
			}, all[s.Name][mizzenMTLS], all[s.Name][base])
		}
	}
	return w.Flush()
}

// externals returns the names of layouts that are not of this program, sorted.
func externals(s load.Samples) []string {
	names := sets.New[string]()
	for _, layouts := range s {
		names.Insert(slices.Collect(maps.Keys(layouts))...)
	}
	return sets.List(names.Delete(none, httpHTTP, httpL4, mizzen, mizzenMTLS))
}
