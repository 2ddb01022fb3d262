package callmetrics

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
)

const envoys = `# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="mizzen-control-plane"} 1
envoy_cluster_upstream_cx_active{destination_namespace="shop",destination_service="cart",destination_port="80"} 4
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",destination_namespace="shop",destination_service="cart",destination_port="80"} 7
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="passthrough"} 2
envoy_cluster_upstream_rq{envoy_response_code="100",destination_namespace="shop",destination_service="cart",destination_port="80"} 5
envoy_cluster_upstream_rq{destination_namespace="shop",destination_service="cart",destination_port="80",envoy_response_code="503"} 1
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{destination_namespace="shop",destination_service="cart",destination_port="80"} 8
# TYPE envoy_outbound_grpc_errors counter
envoy_outbound_grpc_errors{grpc_status="14",destination="outbound/shop/cart/80"} 3
envoy_outbound_grpc_errors{destination="outbound/shop/cart/80",grpc_status="99"} 1
envoy_outbound_grpc_errors{grpc_status="5",destination="passthrough"} 1
# TYPE envoy_mizzen_answers counter
envoy_mizzen_answers{proxy_status="mizzen-outbound; error=x; details=\"no-endpoint\"",cluster="outbound/shop/cart/80"} 1
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{destination_namespace="shop",destination_service="cart",destination_port="80",le="0.5"} 3
envoy_cluster_upstream_rq_time_bucket{destination_namespace="shop",destination_service="cart",destination_port="80",le="300000"} 8
envoy_cluster_upstream_rq_time_bucket{destination_namespace="shop",destination_service="cart",destination_port="80",le="+Inf"} 8
envoy_cluster_upstream_rq_time_sum{destination_namespace="shop",destination_service="cart",destination_port="80"} 1234.5
envoy_cluster_upstream_rq_time_count{destination_namespace="shop",destination_service="cart",destination_port="80"} 8
`

const source = `source_namespace="edge",source_workload="Deployment/web",`

const to = `destination_namespace="shop",destination_service="cart",destination_port="80"`

func TestWriter(t *testing.T) {
	want := `# HELP mizzen_outbound_connections Open connections to the pods of a Service.
# TYPE mizzen_outbound_connections gauge
mizzen_outbound_connections{` + source + to + `} 4
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{envoy_cluster_name="mizzen-control-plane"} 1
# HELP mizzen_outbound_requests_total Requests to a Service, by the status of the answer that the application got. A try that another one follows is not counted here.
# TYPE mizzen_outbound_requests_total counter
mizzen_outbound_requests_total{` + source + `http_response_status_code="200",` + to + `} 7
mizzen_outbound_requests_total{` + source + to + `,http_response_status_code="503"} 1
# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{envoy_response_code="200",envoy_cluster_name="passthrough"} 2
envoy_cluster_upstream_rq{envoy_response_code="100",destination_namespace="shop",destination_service="cart",destination_port="80"} 5
# TYPE envoy_cluster_upstream_rq_total counter
envoy_cluster_upstream_rq_total{` + to + `} 8
# HELP mizzen_outbound_grpc_errors_total gRPC calls that ended with another status than OK.
# TYPE mizzen_outbound_grpc_errors_total counter
mizzen_outbound_grpc_errors_total{` + source + to + `,rpc_response_status_code="UNAVAILABLE"} 3
mizzen_outbound_grpc_errors_total{` + source + to + `,rpc_response_status_code="99"} 1
# TYPE envoy_outbound_grpc_errors counter
envoy_outbound_grpc_errors{grpc_status="5",destination="passthrough"} 1
# HELP mizzen_answers_total Answers that the sidecar made itself, by side, reason (docs/answers.md) and Service.
# TYPE mizzen_answers_total counter
mizzen_answers_total{side="outbound",reason="no-endpoint",` + to + `} 1
# TYPE envoy_server_live gauge
envoy_server_live{} 1
# HELP mizzen_outbound_request_duration_seconds Time from a request to the end of its answer, in seconds.
# TYPE mizzen_outbound_request_duration_seconds histogram
mizzen_outbound_request_duration_seconds_bucket{` + source + to + `,le="0.0005"} 3
mizzen_outbound_request_duration_seconds_bucket{` + source + to + `,le="300"} 8
mizzen_outbound_request_duration_seconds_bucket{` + source + to + `,le="+Inf"} 8
mizzen_outbound_request_duration_seconds_sum{` + source + to + `} 1.2345
mizzen_outbound_request_duration_seconds_count{` + source + to + `} 8
`
	got := written(t, envoys)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	if _, err := parser.TextToMetricFamilies(strings.NewReader(got)); err != nil {
		t.Errorf("Prometheus does not read it: %v", err)
	}
}

func written(t testing.TB, text string) string {
	t.Helper()
	var out bytes.Buffer
	w := NewWriter(&out, "edge", "Deployment/web")
	for line := range strings.Lines(text) {
		if err := w.Line([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return out.String()
}

// What is not understood keeps its name and its value: nothing is lost.
func TestWriterLeavesTheRest(t *testing.T) {
	for name, text := range map[string]string{
		"no labels":       "# TYPE envoy_cluster_upstream_rq counter\nenvoy_cluster_upstream_rq 1\n",
		"no end":          "# TYPE envoy_cluster_upstream_rq counter\nenvoy_cluster_upstream_rq{destination_service=\"x\" 1\n",
		"a bad bound":     "# TYPE envoy_cluster_upstream_rq_time histogram\nenvoy_cluster_upstream_rq_time_bucket{destination_service=\"x\",le=\"1-1\"} 1\n",
		"a bad sum":       "# TYPE envoy_cluster_upstream_rq_time histogram\nenvoy_cluster_upstream_rq_time_sum{destination_service=\"x\"} many\n",
		"another metric":  "# TYPE envoy_cluster_upstream_rq counter\nenvoy_other{destination_service=\"x\"} 1\n",
		"without a type":  "envoy_cluster_upstream_rq{destination_service=\"x\"} 1\n",
		"an empty family": "# TYPE envoy_x counter\n",
	} {
		if got := written(t, text); got != text {
			t.Errorf("%s: %q, want %q", name, got, text)
		}
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestWriterTellsOfAReaderThatIsGone(t *testing.T) {
	w := NewWriter(full{}, "edge", "Deployment/web")
	failed := false
	for line := range strings.Lines(envoys) {
		failed = failed || w.Line([]byte(line)) != nil
	}
	if !failed {
		t.Error("no error")
	}
}

func TestSourceIsEscaped(t *testing.T) {
	var out bytes.Buffer
	w := NewWriter(&out, `a"b`, "c\\d\n")
	for line := range strings.Lines(envoys) {
		if err := w.Line([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(&out)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range families[Requests].GetMetric()[0].GetLabel() {
		if l.GetName() == SourceNamespace && l.GetValue() != `a"b` || l.GetName() == SourceWorkload && l.GetValue() != "c\\d\n" {
			t.Errorf("%s is %q", l.GetName(), l.GetValue())
		}
	}
}

func TestStatusName(t *testing.T) {
	for number, want := range map[string]string{"0": "OK", "14": "UNAVAILABLE", "16": "UNAUTHENTICATED", "17": "17", "-1": "-1", "x": "x", "": ""} {
		if got := StatusName(number); got != want {
			t.Errorf("%q: %s, want %s", number, got, want)
		}
	}
}

func BenchmarkWriter(b *testing.B) {
	lines := bytes.SplitAfter([]byte(strings.Repeat(envoys, 100)), []byte("\n"))
	var out bytes.Buffer
	b.ReportAllocs()
	for b.Loop() {
		out.Reset()
		w := NewWriter(&out, "edge", "Deployment/web")
		for _, line := range lines {
			if err := w.Line(line); err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(lines)), "ns/line")
}
