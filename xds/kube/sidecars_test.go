package kube

import (
	"context"
	"strings"
	"testing"

	"github.com/go-logr/logr/testr"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"k8s.io/client-go/tools/events"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Streams of one sidecar overlap when it goes to another replica and comes back.
func TestReporterSidecar(t *testing.T) {
	recorder := events.NewFakeRecorder(10)
	r := NewReporter(testr.New(t), NewEvents(recorder, goesOn), func() bool { return false }, prometheus.NewRegistry())
	n := Sidecar{Pod: mesh.Key{Namespace: "shop", Name: "cart-0"}, UID: "uid-1", NodeName: "node-1"}
	translated := n
	translated.SocketLoadBalancing = true
	for _, step := range []struct {
		name      string
		sidecar   Sidecar
		connected bool
		events    int
		gauge     float64
	}{
		{"a node that leaves Services alone", n, true, 0, 0},
		{"one that does not", translated, true, 1, 1},
		{"a second stream", translated, true, 0, 1},
		{"the first ends", translated, false, 0, 1},
		{"the other stream ends, of a node that leaves Services alone", n, false, 0, 1},
		{"the second ends", translated, false, 0, 0},
		{"it comes back", translated, true, 1, 1},
	} {
		r.Sidecar(step.sidecar, step.connected)
		if got := len(recorder.Events); got != step.events {
			t.Errorf("%s: %d events, want %d", step.name, got, step.events)
		}
		for range len(recorder.Events) {
			e := <-recorder.Events
			for _, want := range []string{"Pod shop/cart-0", "node-1", "socketLB.hostNamespaceOnly=true", "bpfConnectTimeLoadBalancing: Disabled", "not balanced"} {
				if !strings.Contains(e, want) {
					t.Errorf("%s: event %q lacks %q", step.name, e, want)
				}
			}
		}
		if got := testutil.ToFloat64(r.gauge.WithLabelValues("SocketLoadBalancing")); got != step.gauge {
			t.Errorf("%s: mizzen_object_problems %v, want %v", step.name, got, step.gauge)
		}
	}
	r.Lead(context.Background())
	if len(recorder.Events) != 0 {
		t.Error("told again by a replica that begins to lead, which heard of it itself")
	}
}
