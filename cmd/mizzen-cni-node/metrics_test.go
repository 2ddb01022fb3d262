package main

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/metricsdoc"
)

//go:generate go test . -run TestMetricsPageIsFresh -update

func TestMetricsPageIsFresh(t *testing.T) {
	r := metricsdoc.NewRecorder()
	counters(r)
	metricsdoc.Check(t, "../../docs/metrics.md", "node", r)
}
