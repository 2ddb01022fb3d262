package metricsdoc

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

func recorded(c ...prometheus.Collector) *Recorder {
	r := NewRecorder()
	r.MustRegister(c...)
	return r
}

// Metrics without a series are listed as well, and those of libraries are not.
func TestTable(t *testing.T) {
	r := recorded(
		prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "mizzen_z", Help: "A \"quoted\" | help\\text, constLabels: {}."}, func() float64 { return 1 }),
		prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mizzen_a_total", Help: "Counts."}, []string{"one", "two"}),
		prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "mizzen_h_seconds", Help: "Takes."}, []string{"kind"}),
		prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mizzen_g", Help: "Is.", ConstLabels: prometheus.Labels{"version": "1"}}, []string{"reason"}),
		prometheus.NewCounter(prometheus.CounterOpts{Name: "mizzen_b_total", Help: "Counts <all>."}),
		collectors.NewGoCollector(),
	)
	want := "| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n" +
		"| `mizzen_a_total` | counter | `one`, `two` | Counts. |\n" +
		"| `mizzen_b_total` | counter |  | Counts &lt;all>. |\n" +
		"| `mizzen_g` | gauge | `version`, `reason` | Is. |\n" +
		"| `mizzen_h_seconds` | histogram | `kind` | Takes. |\n" +
		"| `mizzen_z` | gauge |  | A \"quoted\" \\| help\\text, constLabels: {}. |\n"
	if got := string(table(r.Families(t))); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestLint(t *testing.T) {
	for _, tt := range []struct {
		name      string
		collector prometheus.Collector
		want      string // empty: nothing is found
	}{
		{"good", prometheus.NewCounter(prometheus.CounterOpts{Name: "mizzen_calls_total", Help: "Calls."}), ""},
		{"counter without _total", prometheus.NewCounterVec(prometheus.CounterOpts{Name: "mizzen_calls", Help: "Calls."}, []string{"a"}), "_total"},
		{"gauge with _total", prometheus.NewGauge(prometheus.GaugeOpts{Name: "mizzen_calls_total", Help: "Calls."}), "_total"},
		{"no help", prometheus.NewGauge(prometheus.GaugeOpts{Name: "mizzen_calls"}), "help"},
		{"camel case label", prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "mizzen_calls", Help: "Calls."}, []string{"podName"}), "snake_case"},
		{"a unit that is no base unit", prometheus.NewHistogramVec(prometheus.HistogramOpts{Name: "mizzen_wait_milliseconds", Help: "Waits."}, []string{"a"}), "seconds"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := strings.Join(Lint(t, recorded(tt.collector).Families(t)), "\n")
			if (tt.want == "") != (got == "") || !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}

func TestCheckReadsItsOwnSection(t *testing.T) {
	path := filepath.Join(t.TempDir(), "metrics.md")
	content := "# Metrics\n\n<!-- begin other -->\nnot this\n<!-- end other -->\n\n<!-- begin node -->\n" +
		"| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n| `mizzen_a` | gauge |  | Is. |\n<!-- end node -->\n"
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	Check(t, path, "node", recorded(prometheus.NewGauge(prometheus.GaugeOpts{Name: "mizzen_a", Help: "Is."})))
}
