// Package metricsdoc writes docs/metrics.md from the collectors that a program registers, and checks their names
// and help texts with Prometheus' own linter.
//
// Only tests import it. It may import Prometheus' libraries, and of this module internal/golden alone.
package metricsdoc

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"

	"github.com/mizzen-mesh/mizzen/internal/golden"
)

// prefix of the metrics that are Mizzen's. Those of Go, of the process and of libraries are documented elsewhere.
const prefix = "mizzen_"

// Recorder is a registry that remembers the collectors: a registry's Gather leaves out those without a series, and
// a descriptor does not say the type of its metric.
type Recorder struct {
	*prometheus.Registry

	mu         sync.Mutex
	collectors []prometheus.Collector
}

// NewRecorder returns a Recorder without collectors.
func NewRecorder() *Recorder { return &Recorder{Registry: prometheus.NewRegistry()} }

// Register implements prometheus.Registerer.
func (r *Recorder) Register(c prometheus.Collector) error {
	if err := r.Registry.Register(c); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.collectors = append(r.collectors, c)
	return nil
}

// MustRegister implements prometheus.Registerer.
func (r *Recorder) MustRegister(collectors ...prometheus.Collector) {
	for _, c := range collectors {
		if err := r.Register(c); err != nil {
			panic(err)
		}
	}
}

// Families returns the metrics of the collectors, sorted by name. Each has one sample, whose labels are those of the
// metric; the values mean nothing.
func (r *Recorder) Families(t testing.TB) []*dto.MetricFamily {
	t.Helper()
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*dto.MetricFamily
	for _, c := range r.collectors {
		for _, d := range Descriptions(t, c) {
			out = append(out, d.family(t, c))
		}
	}
	slices.SortFunc(out, byName)
	return out
}

func byName(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) }

// Description is what a prometheus.Desc says.
type Description struct {
	Name, Help string
	Labels     []string
}

// String of a Desc is the only way to its content that client_golang offers.
var (
	descText   = regexp.MustCompile(`^Desc\{fqName: ("(?:[^"\\]|\\.)*"), help: ("(?:[^"\\]|\\.)*").*constLabels: \{(.*)\}, variableLabels: \{(.*)\}\}$`)
	constLabel = regexp.MustCompile(`(\w+)="(?:[^"\\]|\\.)*"`)
)

// Descriptions returns the metrics of Mizzen that a collector has.
func Descriptions(t testing.TB, c prometheus.Collector) []Description {
	t.Helper()
	var out []Description
	for desc := range described(c) {
		match := descText.FindStringSubmatch(desc.String())
		if match == nil {
			t.Fatalf("cannot read the description %s", desc)
		}
		name, errName := strconv.Unquote(match[1])
		help, errHelp := strconv.Unquote(match[2])
		if errName != nil || errHelp != nil {
			t.Fatalf("cannot read the description %s", desc)
		}
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		d := Description{Name: name, Help: help}
		for _, label := range constLabel.FindAllStringSubmatch(match[3], -1) {
			d.Labels = append(d.Labels, label[1])
		}
		if match[4] != "" {
			d.Labels = append(d.Labels, strings.Split(match[4], ",")...)
		}
		out = append(out, d)
	}
	return out
}

func described(c prometheus.Collector) <-chan *prometheus.Desc {
	out := make(chan *prometheus.Desc)
	go func() {
		defer close(out)
		c.Describe(out)
	}()
	return out
}

func (d Description) family(t testing.TB, c prometheus.Collector) *dto.MetricFamily {
	t.Helper()
	kind := typeOf(t, d.Name, c)
	sample := &dto.Metric{}
	for _, label := range d.Labels {
		sample.Label = append(sample.Label, &dto.LabelPair{Name: new(label), Value: new("x")})
	}
	switch kind {
	case dto.MetricType_COUNTER:
		sample.Counter = &dto.Counter{}
	case dto.MetricType_HISTOGRAM:
		sample.Histogram = &dto.Histogram{}
	default:
		sample.Gauge = &dto.Gauge{}
	}
	family := &dto.MetricFamily{Name: new(d.Name), Type: &kind, Metric: []*dto.Metric{sample}}
	if d.Help != "" { // to the linter, an empty text is one
		family.Help = new(d.Help)
	}
	return family
}

// typeOf returns a metric's type. A collector of many series need not have one yet, and any other has.
func typeOf(t testing.TB, name string, c prometheus.Collector) dto.MetricType {
	t.Helper()
	switch c.(type) {
	case *prometheus.CounterVec:
		return dto.MetricType_COUNTER
	case *prometheus.GaugeVec:
		return dto.MetricType_GAUGE
	case *prometheus.HistogramVec:
		return dto.MetricType_HISTOGRAM
	}
	metrics := make(chan prometheus.Metric, 1)
	c.Collect(metrics)
	var sample dto.Metric
	select {
	case m := <-metrics:
		if err := m.Write(&sample); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	default:
		t.Fatalf("%s: a %T without a series does not tell its type; use one of client_golang's vectors", name, c)
	}
	switch {
	case sample.Counter != nil:
		return dto.MetricType_COUNTER
	case sample.Gauge != nil:
		return dto.MetricType_GAUGE
	case sample.Histogram != nil:
		return dto.MetricType_HISTOGRAM
	}
	t.Fatalf("%s: a type that this page does not know: %v", name, &sample)
	return 0
}

// Check lints the recorder's metrics, and compares them with a section of docs/metrics.md, or writes it with -update.
// path leads from the test's package to the file. More are metrics that come from elsewhere than a registry.
func Check(t *testing.T, path, section string, r *Recorder, more ...*dto.MetricFamily) {
	t.Helper()
	families := r.Families(t)
	if len(families) == 0 {
		t.Fatal("no metrics are registered")
	}
	families = append(families, more...)
	slices.SortFunc(families, byName)
	for _, problem := range Lint(t, families) {
		t.Error(problem)
	}
	golden.CheckSection(t, path, section, table(families))
}

// Lint returns what Prometheus' linter finds.
func Lint(t testing.TB, families []*dto.MetricFamily) []string {
	t.Helper()
	problems, err := promlint.NewWithMetricFamilies(families).Lint()
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, p := range problems {
		out = append(out, fmt.Sprintf("promlint: %s: %s", p.Metric, p.Text))
	}
	return out
}

func table(families []*dto.MetricFamily) []byte {
	var b bytes.Buffer
	b.WriteString("| Metric | Type | Labels | Meaning |\n|---|---|---|---|\n")
	for _, f := range families {
		var labels []string
		for _, sample := range f.GetMetric() {
			for _, l := range sample.GetLabel() {
				if name := "`" + l.GetName() + "`"; !slices.Contains(labels, name) {
					labels = append(labels, name)
				}
			}
		}
		help := strings.NewReplacer("|", `\|`, "<", "&lt;", "\n", " ").Replace(f.GetHelp())
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", f.GetName(), strings.ToLower(f.GetType().String()), strings.Join(labels, ", "), help)
	}
	return b.Bytes()
}
