package ctl

import (
	"bytes"
	"fmt"
	"time"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

// metrics are those of one process, by name.
type metrics map[string]*dto.MetricFamily

func readMetrics(text []byte) (metrics, error) {
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(bytes.NewReader(text))
	if err != nil {
		return nil, fmt.Errorf("read metrics: %w", err)
	}
	return families, nil
}

// gauge returns the value of a gauge without labels, and whether the process has it.
func (m metrics) gauge(name string) (float64, bool) {
	if f := m[name]; f != nil && len(f.Metric) == 1 && f.Metric[0].Gauge != nil {
		return f.Metric[0].Gauge.GetValue(), true
	}
	return 0, false
}

// counter returns the value of a counter without labels, and whether the process has it.
func (m metrics) counter(name string) (float64, bool) {
	if f := m[name]; f != nil && len(f.Metric) == 1 && f.Metric[0].Counter != nil {
		return f.Metric[0].Counter.GetValue(), true
	}
	return 0, false
}

// label returns the label of a metric with one series, or "".
func (m metrics) label(name, label string) string {
	if f := m[name]; f != nil && len(f.Metric) == 1 {
		for _, l := range f.Metric[0].Label {
			if l.GetName() == label {
				return l.GetValue()
			}
		}
	}
	return ""
}

// time returns the time of a gauge of Unix time, and whether the process has one that is not 0.
func (m metrics) time(name string) (time.Time, bool) {
	seconds, ok := m.gauge(name)
	return time.Unix(int64(seconds), 0).UTC(), ok && seconds > 0
}
