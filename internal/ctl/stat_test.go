package ctl

import (
	"bytes"
	"context"
	"errors"
	"math"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/mizzen-mesh/mizzen/internal/callmetrics"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What came between two samples is counted, whatever happens to a sidecar meanwhile.
func TestStatBetween(t *testing.T) {
	cart := destination{mesh.Key{Namespace: "shop", Name: "cart"}, 8080}
	other := destination{mesh.Key{Namespace: "shop", Name: "other"}, 1}
	counted := func(ok, failed float64) map[destination]*counts {
		c := newCounts()
		c.codes["200"], c.codes["503"], c.opened = ok, failed, 1
		return map[destination]*counts{cart: c, other: newCounts()}
	}
	at := func(seconds int) time.Time { return goldenNow().Add(time.Duration(seconds) * time.Second) }
	down := errors.New("away")
	// of is what a sidecar has counted that started at a time.
	of := func(seconds int, by map[destination]*counts, started float64) sample {
		return sample{at(seconds), start{process: started}, by, nil}
	}
	key := func(name string) mesh.Key { return mesh.Key{Namespace: "web", Name: name} }
	for name, tt := range map[string]struct {
		before, after    map[mesh.Key]sample
		requests, failed int64
		perSecond        float64
		sidecars         int
		unanswered       int
	}{
		"all since the start": {
			nil, map[mesh.Key]sample{key("a"): of(0, counted(90, 10), 1), key("b"): of(0, counted(5, 0), 1)},
			105, 10, 0, 2, 0,
		},
		"over times that differ": {
			map[mesh.Key]sample{key("a"): of(0, counted(90, 10), 1), key("b"): of(1, counted(0, 0), 1)},
			map[mesh.Key]sample{key("a"): of(10, counted(180, 20), 1), key("b"): of(21, counted(20, 0), 1)},
			120, 10, 11, 2, 0,
		},
		"a start meanwhile": {
			map[mesh.Key]sample{key("a"): of(0, counted(90, 10), 1), key("b"): of(0, counted(0, 0), 1)},
			map[mesh.Key]sample{key("a"): of(10, counted(95, 5), 2), key("b"): of(10, counted(0, 0), 1)},
			100, 5, 10, 2, 0,
		},
		"come since": {
			map[mesh.Key]sample{key("a"): of(0, counted(0, 0), 1)},
			map[mesh.Key]sample{key("a"): of(10, counted(10, 0), 1), key("b"): of(10, counted(900, 0), 1)},
			10, 0, 1, 1, 0,
		},
		"gone since": {
			map[mesh.Key]sample{key("a"): of(0, counted(0, 0), 1), key("b"): of(0, counted(0, 0), 1)},
			map[mesh.Key]sample{key("a"): of(10, counted(10, 0), 1), key("b"): {at: at(10), fail: down}},
			10, 0, 1, 1, 1,
		},
		"did not answer at first": {
			map[mesh.Key]sample{key("a"): of(0, counted(0, 0), 1), key("b"): {at: at(0), fail: down}},
			map[mesh.Key]sample{key("a"): of(10, counted(10, 0), 1), key("b"): of(10, counted(900, 0), 1)},
			10, 0, 1, 1, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			reads := &traffic{wanted: func(destination) bool { return true }}
			for _, name := range []string{"a", "b"} {
				source := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "web", Name: name}}
				reads.pods = append(reads.pods, &podInfo{Pod: mesh.BuildPod(source), source: source, workload: "Deployment/web"})
			}
			v := reads.between(tt.before, tt.after)
			if len(v.Calls) != 1 {
				t.Fatalf("%+v, want calls to one Service", v.Calls)
			}
			got := v.Calls[0]
			if got.Requests != tt.requests || got.Failed != tt.failed || got.PerSecond != tt.perSecond || v.Sidecars != tt.sidecars || len(v.Unanswered) != tt.unanswered {
				t.Errorf("%+v of %d sidecars, %d unanswered, want %d requests, %d failed, %g per second, of %d, %d unanswered",
					got, v.Sidecars, len(v.Unanswered), tt.requests, tt.failed, tt.perSecond, tt.sidecars, tt.unanswered)
			}
		})
	}
}

// A gRPC call that the sidecar answers has a status of HTTP and one of gRPC, and has failed once.
func TestStatFailed(t *testing.T) {
	for name, tt := range map[string]struct {
		codes, grpc    map[string]float64
		want, requests float64
	}{
		"none":                      {map[string]float64{"200": 9, "404": 3}, nil, 0, 12},
		"HTTP":                      {map[string]float64{"200": 9, "500": 1, "503": 2}, nil, 3, 12},
		"gRPC":                      {map[string]float64{"200": 9}, map[string]float64{"UNAVAILABLE": 2, "INTERNAL": 1}, 3, 9},
		"the client's fault":        {map[string]float64{"200": 9}, map[string]float64{"NOT_FOUND": 2, "CANCELLED": 1}, 0, 9},
		"gRPC without an answer":    {map[string]float64{"200": 9, "503": 2}, map[string]float64{"UNAVAILABLE": 2}, 2, 11},
		"gRPC of server and mesh":   {map[string]float64{"200": 9, "503": 2}, map[string]float64{"UNAVAILABLE": 2, "UNKNOWN": 1}, 3, 11},
		"streams that began before": {map[string]float64{"200": 10}, map[string]float64{"UNAVAILABLE": 50}, 50, 50},
	} {
		c := &counts{codes: tt.codes, grpc: tt.grpc}
		if c.failed() != tt.want || c.requests() != tt.requests {
			t.Errorf("%s: %g of %g have failed, want %g of %g", name, c.failed(), c.requests(), tt.want, tt.requests)
		}
	}
}

func TestStatQuantile(t *testing.T) {
	inf := math.Inf(1)
	for name, tt := range map[string]struct {
		latency map[float64]float64
		q, want float64
		none    bool
	}{
		"nothing":             {nil, 0.5, 0, true},
		"no requests":         {map[float64]float64{1: 0, inf: 0}, 0.5, 0, true},
		"within a bucket":     {map[float64]float64{1: 0, 5: 100, inf: 100}, 0.5, 3, false},
		"in the first":        {map[float64]float64{1: 100, 5: 100, inf: 100}, 0.5, 0.5, false},
		"beyond the last":     {map[float64]float64{1: 10, 5: 20, inf: 100}, 0.99, 5, false},
		"at a bucket's bound": {map[float64]float64{1: 50, 5: 100, inf: 100}, 0.5, 1, false},
		"after an empty one":  {map[float64]float64{1: 50, 5: 50, 10: 100, inf: 100}, 0.75, 7.5, false},
	} {
		if got, ok := (&counts{latency: tt.latency}).quantile(tt.q); ok == tt.none || math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%s: %g, %t, want %g", name, got, ok, tt.want)
		}
	}
}

// growing counts a request more at each look.
type growing struct{ looks int }

func (g *growing) ask(context.Context, mesh.Key, string, any) error { return nil }

func (g *growing) log(context.Context, mesh.Key, string, bool) ([]byte, error) { return nil, nil }

func (g *growing) page(context.Context, mesh.Key, int, string) ([]byte, error) {
	g.looks++
	return []byte("# TYPE mizzen_agent_envoy_up gauge\nmizzen_agent_envoy_up 1\n# TYPE envoy_cluster_upstream_rq counter\n" +
		`envoy_cluster_upstream_rq{destination_namespace="shop",destination_service="cart",destination_port="80",envoy_response_code="200"} ` +
		strings.Repeat("1", g.looks) + "\n"), nil
}

// stat looks twice, and shows what came between.
func TestStatWindow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		asked := &growing{}
		cmd := newCommand(anyClusterOf(t, []byte(meshedPod), nil), func(*clusterFlags) (agents, error) { return asked, nil }, time.Now)
		cmd.SetArgs([]string{"stat"})
		cmd.SetOut(&out)
		if err := cmd.ExecuteContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		want := "in 10 s, as seen by 1 proxy\n\n" +
			"TO            FROM           PER SECOND  SUCCESS  P50  P99  RETRIES  WHY\n" +
			"shop/cart:80  web/Pod/web-1  1.0         100 %    -    -\n"
		if diff := cmp.Diff(want, out.String()); diff != "" {
			t.Errorf("output (-want +got):\n%s", diff)
		}
	})
}

// top goes on until it is interrupted, which is no failure. Each table has what came since the one before.
func TestTop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		out := interrupting{after: 2, stop: stop}
		asked := &growing{}
		cmd := newCommand(anyClusterOf(t, []byte(meshedPod), nil), func(*clusterFlags) (agents, error) { return asked, nil }, time.Now)
		cmd.SetArgs([]string{"top", "--interval", "100s"})
		cmd.SetOut(&out)
		if err := cmd.ExecuteContext(ctx); err != nil {
			t.Fatal(err)
		}
		for table, rate := range map[int]string{1: "0.1", 2: "1.0"} {
			if got := strings.Split(out.text.String(), "in 100 s")[table]; !strings.Contains(got, "shop/cart:80  web/Pod/web-1  "+rate+" ") {
				t.Errorf("table %d: %q, want %s a second", table, got, rate)
			}
		}
	})
}

// interrupting stops after so many writes.
type interrupting struct {
	text  bytes.Buffer
	after int
	stop  func()
}

func (i *interrupting) Write(b []byte) (int, error) {
	if i.after--; i.after == 0 {
		i.stop()
	}
	return i.text.Write(b)
}

const meshedPod = `apiVersion: v1
kind: Pod
metadata: {name: web-1, namespace: web, annotations: {mizzen.dev/injected: "0.2.0"}}
spec:
  initContainers:
  - {name: mizzen-proxy, image: proxy, args: [run], restartPolicy: Always}
  - {name: mizzen-capture, image: proxy, args: [capture]}
  containers: [{name: app, image: app}]
status: {phase: Running}
`

func TestNumbers(t *testing.T) {
	for n, want := range map[int64]string{0: "0 B", 999: "999 B", 1000: "1 kB", 1234567: "1.23 MB", 999_700: "1 MB", 999_400: "999 kB", 3e15: "3e+03 TB"} {
		if got := bytesText(n); got != want {
			t.Errorf("%d bytes: %q, want %q", n, got, want)
		}
	}
	for n, want := range map[float64]string{0: "0.0", 0.01: "<0.1", 0.1: "0.1", 1234.56: "1234.6"} {
		if got := perSecond(n); got != want {
			t.Errorf("%g a second: %q, want %q", n, got, want)
		}
	}
	for ms, want := range map[float64]string{0.4: "0.4 ms", 9.94: "9.9 ms", 24.4: "24 ms", 9999: "9999 ms", 30000: "30 s"} {
		if got := milliseconds(ms); got != want {
			t.Errorf("%g ms: %q, want %q", ms, got, want)
		}
	}
}

func TestBusiest(t *testing.T) {
	v := statView{Calls: []callsView{{PerSecond: 1}, {Connections: connectionsView{Sent: 5}}, {PerSecond: 3}, {}}}
	v.busiest(3)
	want := []callsView{{PerSecond: 3}, {PerSecond: 1}, {Connections: connectionsView{Sent: 5}}}
	if diff := cmp.Diff(want, v.Calls); diff != "" || v.left != 1 {
		t.Errorf("%d left, diff (-want +got):\n%s", v.left, diff)
	}
}

// Under the names of this version and under Envoy's, a sidecar says the same.
func TestCallsByEitherName(t *testing.T) {
	const to = `destination_namespace="shop",destination_service="cart",destination_port="80"`
	const envoys = `# TYPE envoy_cluster_upstream_rq counter
envoy_cluster_upstream_rq{` + to + `,envoy_response_code="100"} 2
envoy_cluster_upstream_rq{` + to + `,envoy_response_code="200"} 7
envoy_cluster_upstream_rq{` + to + `,envoy_response_code="503"} 1
# TYPE envoy_outbound_grpc_errors counter
envoy_outbound_grpc_errors{grpc_status="14",destination="outbound/shop/cart/80"} 3
# TYPE envoy_cluster_upstream_rq_time histogram
envoy_cluster_upstream_rq_time_bucket{` + to + `,le="2.5"} 3
envoy_cluster_upstream_rq_time_bucket{` + to + `,le="300000"} 8
envoy_cluster_upstream_rq_time_bucket{` + to + `,le="+Inf"} 8
envoy_cluster_upstream_rq_time_sum{` + to + `} 12
envoy_cluster_upstream_rq_time_count{` + to + `} 8
# TYPE envoy_cluster_upstream_rq_retry counter
envoy_cluster_upstream_rq_retry{` + to + `} 4
# TYPE envoy_cluster_upstream_cx_total counter
envoy_cluster_upstream_cx_total{` + to + `} 9
# TYPE envoy_cluster_upstream_cx_active gauge
envoy_cluster_upstream_cx_active{` + to + `} 2
# TYPE envoy_cluster_upstream_cx_connect_fail counter
envoy_cluster_upstream_cx_connect_fail{` + to + `} 1
# TYPE envoy_cluster_upstream_cx_tx_bytes_total counter
envoy_cluster_upstream_cx_tx_bytes_total{` + to + `} 1000
# TYPE envoy_cluster_upstream_cx_rx_bytes_total counter
envoy_cluster_upstream_cx_rx_bytes_total{` + to + `} 2000
`
	var ours bytes.Buffer
	w := callmetrics.NewWriter(&ours, "edge", "Deployment/web")
	for line := range strings.Lines(envoys) {
		if err := w.Line([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	if n := strings.Count(ours.String(), "\nenvoy_"); n != 1 { // the informational answers
		t.Fatalf("%d lines have their old name:\n%s", n, ours.String())
	}
	want := &counts{
		codes: map[string]float64{"200": 7, "503": 1}, grpc: map[string]float64{"UNAVAILABLE": 3}, reasons: map[string]float64{},
		latency: map[float64]float64{2.5: 3, 300000: 8, math.Inf(1): 8}, retries: 4, opened: 9, open: 2, failedToConnect: 1, sent: 1000, received: 2000,
	}
	for name, text := range map[string]string{"Envoy's": envoys, "ours": ours.String()} {
		m, err := readMetrics([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		got, err := m.calls()
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(map[destination]*counts{{mesh.Key{Namespace: "shop", Name: "cart"}, 80}: want}, got, cmp.AllowUnexported(counts{}, destination{})); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
