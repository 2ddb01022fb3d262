package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// calls is a sender that notes what it is called for. Types in unacknowledged get a response with their additions.
type calls struct {
	ordering       *ordering
	unacknowledged string
	got            []string
	err            error
}

func (c *calls) sendAdditions(typeURL string) error {
	c.got = append(c.got, "+"+shortType(typeURL))
	if typeURL == c.unacknowledged {
		c.ordering.subs.last++
		c.ordering.subs.of(typeURL).responding(c.ordering.subs.last, causeChange, nil, nil)
	}
	return c.err
}

func (c *calls) sendRemovals(typeURL string) error {
	c.got = append(c.got, "-"+shortType(typeURL))
	return nil
}

// newOrdering is that of a proxy with subscriptions to the types in order, and to endpoints.
func newOrdering(p *parts) *ordering {
	for _, typeURL := range append([]string{envoy.EndpointType}, order...) {
		sub, _ := p.subs.open(typeURL)
		sub.all = typeURL != envoy.EndpointType
	}
	r := &resumption{store: p.store, lookup: &p.lookup, subs: &p.subs, warming: &p.warming}
	return &ordering{subs: &p.subs, lookup: &p.lookup, warming: &p.warming, resumption: r}
}

func (o *ordering) sent(t *testing.T, unacknowledged string) string {
	t.Helper()
	c := &calls{ordering: o, unacknowledged: unacknowledged}
	if err := o.advance(c); err != nil {
		t.Fatal(err)
	}
	return strings.Join(c.got, " ")
}

const (
	allRemovals  = "-Listener -ScopedRouteConfiguration -RouteConfiguration -Cluster -ClusterLoadAssignment"
	allAdditions = "+Cluster +ClusterLoadAssignment +ScopedRouteConfiguration +Listener"
)

func TestOrderWithoutWaits(t *testing.T) {
	o := newOrdering(newParts(t))
	if got, want := o.sent(t, ""), allAdditions+" "+allRemovals; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Each type waits for the one before, and removals wait for all. Once the proxy has answered the clusters that scopes and
// listeners waited for, these come before further clusters.
func TestOrderWaitsForAnswers(t *testing.T) {
	o := newOrdering(newParts(t))
	clusters := o.subs.of(envoy.ClusterType)
	if got, want := o.sent(t, envoy.ClusterType), "+Cluster +ClusterLoadAssignment"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := o.sent(t, ""), "+Cluster +ClusterLoadAssignment"; got != want {
		t.Errorf("without an answer got %q, want %q", got, want)
	}
	clusters.answered()
	if got, want := o.sent(t, envoy.ScopedRouteType), "+ScopedRouteConfiguration +Cluster +ClusterLoadAssignment +ScopedRouteConfiguration"; got != want {
		t.Errorf("after the answer got %q, want %q", got, want)
	}
	o.subs.of(envoy.ScopedRouteType).overdue = true
	if got, want := o.sent(t, ""), allAdditions+" "+allRemovals; got != want {
		t.Errorf("after the scopes were overdue got %q, want %q", got, want)
	}
}

func TestOrderWaitsForWarmClusters(t *testing.T) {
	p := newParts(t)
	p.set("", "a")
	o := newOrdering(p)
	p.warming.sent([]*entry{p.entry(envoy.ClusterType, "a")}, 1)
	o.subs.last = 1
	for _, want := range []string{"+Cluster +ClusterLoadAssignment", "+Cluster +ClusterLoadAssignment"} {
		if got := o.sent(t, ""); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	p.warming.giveUp()
	if got, want := o.sent(t, ""), "+ScopedRouteConfiguration +Listener "+allAdditions+" "+allRemovals; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestNothingIsRemovedAtFirst(t *testing.T) {
	p := newParts(t)
	o := newOrdering(p)
	o.resumption.take(o.subs.of(envoy.EndpointType), map[string]string{"a": "1"})
	if got := o.sent(t, ""); got != allAdditions {
		t.Errorf("while the proxy lists what it has got %q, want %q", got, allAdditions)
	}
	o.resumption.end()
	routes, _ := p.subs.open(envoy.RouteType)
	routes.asked.add("a")
	if got := o.sent(t, ""); strings.Contains(got, "-") {
		t.Errorf("while the proxy waits for routes got %q, want no removals", got)
	}
	routes.asked.remove("a")
	if got := o.sent(t, ""); !strings.HasSuffix(got, allRemovals) {
		t.Errorf("got %q, want removals", got)
	}
}

func TestOrderStopsAtAnError(t *testing.T) {
	o := newOrdering(newParts(t))
	c := &calls{ordering: o, err: errLater}
	if err := o.advance(c); !errors.Is(err, errLater) || len(c.got) != 1 {
		t.Errorf("got error %v after %q", err, c.got)
	}
}

// A route may be sent when each of its clusters is the newest one, acknowledged and warm, or does not exist.
func TestReady(t *testing.T) {
	p := newParts(t)
	p.set("1", "a")
	o := newOrdering(p)
	clusters, route := o.subs.of(envoy.ClusterType), p.entry(envoy.RouteType, "a")
	ready := func(when string, want bool) {
		t.Helper()
		if got := o.ready(route); got != want {
			t.Errorf("%s: ready is %v", when, got)
		}
	}
	ready("before the cluster is sent", false)
	cluster := p.entry(envoy.ClusterType, "a")
	clusters.sent["a"] = cluster.version
	p.warming.sent([]*entry{cluster}, 1)
	ready("after the cluster is sent", false)
	p.warming.clustersAnswered()
	ready("while the cluster warms", false)
	p.warming.warmed("a", 2)
	ready("when the cluster is warm", true)
	p.set("2", "a")
	ready("when there is a newer cluster", false)
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.ClusterType, Name: "a"}}})
	ready("without a cluster", true)
	p.set("3", "a")
	clusters.all = false
	ready("for a proxy that chooses its clusters itself", true)
}
