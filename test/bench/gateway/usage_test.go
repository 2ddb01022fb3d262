package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/test/bench/internal/load"
)

const metricsText = `# HELP a_total What.
# TYPE a_total counter
a_total{name="x y"} 1.5
a_total{name="z"} 2 1700000000
a_total_more 9

b 1e3
`

func TestMetrics(t *testing.T) {
	for name, want := range map[string]float64{"a_total": 3.5, "b": 1000, "a_total_more": 9} {
		if got, err := metric(metricsText, name); err != nil || got != want {
			t.Errorf("%s: %v, error %v, want %v", name, got, err, want)
		}
	}
	if _, err := metric(metricsText, "a"); err == nil {
		t.Error("a is no metric")
	}
	if got := series(metricsText); got != 4 {
		t.Errorf("%d series, want 4", got)
	}
}

func TestContainerUsage(t *testing.T) {
	const summary = `{"pods": [{"podRef": {"name": "public-1", "namespace": "edge"}, "containers": [{"name": "mizzen-proxy",
		"cpu": {"time": "2026-11-30T10:00:10Z", "usageCoreNanoSeconds": 3000000000}, "memory": {"workingSetBytes": 50000000}}]}]}`
	after, err := containerUsage([]byte(summary), "edge", "public-1")
	if err != nil {
		t.Fatal(err)
	}
	before := process{at: after.at.Add(-10 * time.Second), cpu: 2 * time.Second}
	if got := share(before, after); got != "10.0 %" || mb(after.memory) != "50 MB" {
		t.Errorf("%s, %s, want 10.0 %% and 50 MB", got, mb(after.memory))
	}
	if got := share(after, after); got != "unknown" {
		t.Errorf("%s in no time, want unknown", got)
	}
	if _, err := containerUsage([]byte(summary), "edge", "public-2"); err == nil {
		t.Error("a pod that is not there has a usage")
	}
}

func TestTrafficObjects(t *testing.T) {
	objects, err := parse(trafficObjects)
	if err != nil || len(objects) != 7 {
		t.Errorf("%d objects, error %v, want 7", len(objects), err)
	}
}

func TestReportTraffic(t *testing.T) {
	var out bytes.Buffer
	err := reportTraffic(&out, load.Samples{"HTTP/2 1 KB": {mizzenName: {{CPU: 104, P99: 30}}, handName: {{CPU: 100, P99: 20}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"1.04", "1.50", "mizzen : by hand", "wanted of mizzen : by hand: CPU at most 1.05, p99 at most 1.1"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, &out)
		}
	}
	if strings.Contains(out.String(), "HTTP/1.1") {
		t.Errorf("what was not measured is in\n%s", &out)
	}
}
