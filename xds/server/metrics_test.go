package server_test

import (
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// converged counts what mizzen_xds_convergence_seconds has observed, over all types.
func (c *control) converged(t *testing.T) (n uint64) {
	t.Helper()
	families, err := c.metrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "mizzen_xds_convergence_seconds" {
			continue
		}
		for _, m := range f.GetMetric() {
			n += m.GetHistogram().GetSampleCount()
		}
	}
	return n
}

// Resources for a first call may have been published long ago, so they do not count for how fast changes arrive.
func TestFirstCallIsNoChange(t *testing.T) {
	c := start(t)
	c.set(t, slices.Concat([]envoy.Resource{base()}, service("shop", "a"))...)
	p := bare(t, c, pod("one", "n1"))
	p.call("a", "a")
	wantChanges := func(want int) {
		t.Helper()
		p.quiet() // so the last acknowledgement has been read
		if sent, seen := c.total(t, "mizzen_xds_responses_total", "change"), c.converged(t); sent != float64(want) || seen != uint64(want) {
			t.Errorf("%v changes sent and %d observed, want %d", sent, seen, want)
		}
	}
	wantChanges(0)

	c.set(t, in("shop", clusterWith("a", "a", "changed"))...)
	changed := p.expect(envoy.ClusterType, "a")
	p.take(envoy.EndpointType, "a") // asked for by the cluster that warms
	p.ack(changed)
	wantChanges(1)
}

func TestPendingChangesBehindAResponse(t *testing.T) {
	const n = 50
	c := start(t)
	names := numbered(100, n)
	set := func(priority uint32) {
		var all []envoy.Resource
		for _, name := range names {
			all = append(all, endpoints(name, priority))
		}
		c.set(t, all...)
	}
	set(0)
	p := c.connect(t, pod("one", "n1"))
	p.subscribe(envoy.EndpointType, names...)
	first := p.expect(envoy.EndpointType, names...)
	pending := func(want float64) func() bool {
		return func() bool { return c.total(t, "mizzen_xds_pending_changes", "") == want }
	}
	await(t, "nothing is pending", pending(0))

	set(1)
	p.quiet() // so the stream has looked at the changes, and waits
	await(t, "what waits is counted", pending(n))
	p.ack(first)
	p.take(envoy.EndpointType, names...)
	await(t, "nothing is pending any more", pending(0))
}
