package main

import (
	"fmt"
	"math"
)

// law is y = k · S^s · N^n, the least-squares fit of logarithms: how a figure grows.
type law struct {
	k, s, n float64
	// off is the largest factor between the law and a measurement.
	off float64
}

// fit needs two different S and two different N, else their exponent is NaN.
func fit(cells []cell, of func(cell) float64) law {
	var a [3][4]float64 // the normal equations
	for _, c := range cells {
		x := [4]float64{1, math.Log(float64(c.Services)), math.Log(float64(c.Proxies)), math.Log(of(c))}
		for i := range 3 {
			for j := range 4 {
				a[i][j] += x[i] * x[j]
			}
		}
	}
	v := solve(a)
	l := law{k: math.Exp(v[0]), s: v[1], n: v[2], off: 1}
	for _, c := range cells {
		ratio := l.at(c.Services, c.Proxies) / of(c)
		l.off = max(l.off, ratio, 1/ratio)
	}
	return l
}

func (l law) at(services, proxies int) float64 {
	return l.k * math.Pow(float64(services), l.s) * math.Pow(float64(proxies), l.n)
}

// solve is Gaussian elimination with pivots; a singular system gives NaN.
func solve(a [3][4]float64) [3]float64 {
	for i := range 3 {
		pivot := i
		for r := i + 1; r < 3; r++ {
			if math.Abs(a[r][i]) > math.Abs(a[pivot][i]) {
				pivot = r
			}
		}
		a[i], a[pivot] = a[pivot], a[i]
		if math.Abs(a[i][i]) < 1e-9 {
			a[i][i] = math.NaN()
		}
		for r := range 3 {
			if r == i {
				continue
			}
			f := a[r][i] / a[i][i]
			for j := i; j < 4; j++ {
				a[r][j] -= f * a[i][j]
			}
		}
	}
	return [3]float64{a[0][3] / a[0][0], a[1][3] / a[1][1], a[2][3] / a[2][2]}
}

// laws of the figures that matter.
func (r *report) laws() table {
	t := table{head: []string{"figure", "grows with S as", "with N as", "the law fits within"}}
	for _, f := range []struct {
		name string
		of   func(cell) float64
	}{
		{"bytes a fresh proxy", func(c cell) float64 { return c.Fresh.Bytes }},
		{"all in sync", func(c cell) float64 { return c.Fresh.Sync.Max }},
		{"CPU until all are in sync", func(c cell) float64 { return c.Fresh.CPU }},
		{"memory above that without proxies, at the peak", func(c cell) float64 { return max(1, c.Fresh.PeakMB-c.BaseMB) }},
		{"memory without proxies", func(c cell) float64 { return c.BaseMB }},
		{"a changed endpoint, p99", func(c cell) float64 { return max(0.1, c.Change.Latency.P99) }},
		{"CPU for a new Service", func(c cell) float64 { return max(1e-3, c.NewService.CPU) }},
	} {
		l := fit(r.measured(), f.of)
		if math.IsNaN(l.s) || math.IsNaN(l.n) {
			continue // too few cells
		}
		t.rows = append(t.rows, []string{f.name, "S^" + exponent(l.s), "N^" + exponent(l.n), "× " + num(l.off)})
	}
	return t
}

func exponent(v float64) string { return fmt.Sprintf("%.2f", v) }
