package agent

import (
	"bytes"
	"log/slog"
	"maps"
	"slices"
	"testing"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/answers"
	"github.com/mizzen-mesh/mizzen/internal/callmetrics"
	"github.com/mizzen-mesh/mizzen/internal/metricsdoc"
)

//go:generate go test . -run TestMetricsPageIsFresh -update

func TestMetricsPageIsFresh(t *testing.T) {
	s := withAddress(testSettings("mizzen-controller.mizzen-system.svc.cluster.local:15010", "10.1.2.3"))
	s.Dir = t.TempDir()
	s.TrustBundle = authoritytest.Bundle(authoritytest.NewRoot(t, "root"))
	r := metricsdoc.NewRecorder()
	a := &agent{settings: s, log: slog.New(slog.DiscardHandler), admin: newAdminClient(s.adminSocket()), metrics: newMetrics(r)}
	if err := a.setUpIdentity(); err != nil {
		t.Fatal(err)
	}
	metricsdoc.Check(t, "../../docs/metrics.md", "sidecar", r, append(callMetrics(t), answersMetric(t))...)
}

// callMetrics are the statistics of calls that the agent renames.
func callMetrics(t *testing.T) []*dto.MetricFamily {
	t.Helper()
	var text bytes.Buffer
	w := callmetrics.NewWriter(&text, "shop", "Deployment/web")
	line := func(text string) {
		if err := w.Line([]byte(text + "\n")); err != nil {
			t.Fatal(err)
		}
	}
	const to = `destination_namespace="shop",destination_service="cart",destination_port="80"`
	for _, m := range callmetrics.All {
		line("# TYPE " + m.Envoy + " " + m.Kind)
		switch {
		case m.Kind == "histogram":
			line(m.Envoy + `_bucket{` + to + `,le="+Inf"} 1`)
			line(m.Envoy + `_sum{` + to + `} 1`)
			line(m.Envoy + `_count{` + to + `} 1`)
		case m.Name == callmetrics.GRPCErrors:
			line(m.Envoy + `{grpc_status="14",destination="outbound/shop/cart/80"} 1`)
		case m.Name == callmetrics.Requests:
			line(m.Envoy + `{envoy_response_code="200",` + to + `} 1`)
		default:
			line(m.Envoy + `{` + to + `} 1`)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	if len(families) != len(callmetrics.All) {
		t.Fatalf("%d families, want %d", len(families), len(callmetrics.All))
	}
	return slices.Collect(maps.Values(families))
}

// answersMetric is the statistic of Envoy that the agent renames, of a Service and of what is none.
func answersMetric(t *testing.T) *dto.MetricFamily {
	t.Helper()
	var text bytes.Buffer
	for _, line := range []string{
		"# TYPE envoy_mizzen_answers counter\n",
		`envoy_mizzen_answers{proxy_status="mizzen-outbound; error=x; details=\"no-endpoints\"",cluster="outbound/shop/cart/80"} 1` + "\n",
		`envoy_mizzen_answers{proxy_status="mizzen-outbound; error=x; details=\"no-endpoints\"",cluster="passthrough"} 1` + "\n",
	} {
		text.Write(answers.Rename([]byte(line)))
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&text)
	if err != nil {
		t.Fatal(err)
	}
	f := families[answers.Metric]
	if len(f.GetMetric()) != 2 {
		t.Fatalf("renamed to %v, want two series of %s", families, answers.Metric)
	}
	return f
}
