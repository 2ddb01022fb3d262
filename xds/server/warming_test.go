package server

import (
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func TestWarming(t *testing.T) {
	p := newParts(t)
	p.set("", "a", "b")
	w, a := &p.warming, p.entry(envoy.ClusterType, "a")
	eds, _ := p.subs.open(envoy.EndpointType)
	answer := func(number uint64, set []*entry, gone ...string) {
		eds.responding(number, causeChange, set, gone)
		w.endpointsAnswered(eds)
		eds.answered()
	}
	if w.active() || !w.usable(a) {
		t.Error("a cluster warms that was not sent")
	}
	w.sent([]*entry{a}, 5)
	if !w.active() || w.usable(a) || !w.upTo(5) || w.upTo(4) {
		t.Errorf("after cluster a: %+v", w)
	}
	answer(4, []*entry{p.entry(envoy.EndpointType, "a")})
	if !w.active() {
		t.Error("endpoints count that were sent before their cluster")
	}
	answer(6, nil, "a")
	if w.active() || w.usable(a) {
		t.Error("an unacknowledged cluster is usable")
	}
	w.clustersAnswered()
	if !w.usable(a) {
		t.Error("the cluster is acknowledged and warm, and not usable")
	}
}

// What a proxy brings along is cold until it names the endpoints, gets them, or has had the time to name them.
func TestColdClusters(t *testing.T) {
	p := newParts(t)
	p.set("", "a", "b", "c")
	w := &p.warming
	for _, name := range []string{"a", "b", "c"} {
		w.brought(envoy.ClusterType, name, p.entry(envoy.ClusterType, name))
	}
	w.brought(envoy.ClusterType, "gone", nil)
	w.brought(envoy.EndpointType, "a", p.entry(envoy.EndpointType, "a"))
	w.warmed("b", 1)
	for name, want := range map[string]bool{"a": true, "b": true, "c": false} {
		if got := w.usable(p.entry(envoy.ClusterType, name)); got != want {
			t.Errorf("cluster %s: usable is %v", name, got)
		}
	}
	w.resumed()
	if !w.usable(p.entry(envoy.ClusterType, "c")) {
		t.Error("cluster c stays cold")
	}
}

// Endpoints are sent again for a cluster that was sent after them, unless they are on their way.
func TestEndpointsAreSentAgain(t *testing.T) {
	p := newParts(t)
	p.set("", "a", "b", "c")
	w := &p.warming
	eds, _ := p.subs.open(envoy.EndpointType)
	p.subs.subscribe(eds, "a", false)
	p.subs.subscribe(eds, "b", false)
	eds.done("a")
	eds.done("b")
	eds.responding(6, causeSubscribe, []*entry{p.entry(envoy.EndpointType, "b")}, nil)
	w.sent([]*entry{p.entry(envoy.ClusterType, "a"), p.entry(envoy.ClusterType, "b"), p.entry(envoy.ClusterType, "c")}, 5)
	w.resend(nil)
	w.resend(eds)
	equal(t, "asked", sortedKeys(eds.asked), "a")
	equal(t, "dirty", sortedKeys(eds.dirty), "a")
}
