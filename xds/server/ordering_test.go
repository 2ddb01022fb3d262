package server

import (
	"errors"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// calls is a sender that notes what it is called for. The type unacknowledged gets a response with its additions, the type
// unacknowledgedGone one with its removals.
type calls struct {
	ordering                           *ordering
	unacknowledged, unacknowledgedGone string
	got                                []string
	err                                error
}

func (c *calls) sendAdditions(typeURL string) error {
	c.got = append(c.got, "+"+shortType(typeURL))
	if typeURL == c.unacknowledged {
		c.respond(typeURL)
	}
	return c.err
}

func (c *calls) sendRemovals(typeURL string) error {
	c.got = append(c.got, "-"+shortType(typeURL))
	if typeURL == c.unacknowledgedGone {
		c.respond(typeURL)
	}
	return nil
}

func (c *calls) respond(typeURL string) {
	c.ordering.subs.last++
	c.ordering.subs.of(typeURL).responding(c.ordering.subs.last, causeChange, nil, nil)
}

// newOrdering is that of a proxy with subscriptions to clusters, listeners and scopes, and to endpoints.
func newOrdering(p *parts) *ordering {
	for _, typeURL := range []string{envoy.EndpointType, envoy.ScopedRouteType, envoy.ClusterType, envoy.ListenerType} {
		sub, _ := p.subs.open(typeURL)
		sub.all = typeURL != envoy.EndpointType
	}
	r := &resumption{lookup: &p.lookup, subs: &p.subs, warming: &p.warming}
	return &ordering{subs: &p.subs, lookup: &p.lookup, warming: &p.warming, resumption: r}
}

// sent returns what is sent now. Endpoints and scopes stand in no order, so they are sorted.
func (o *ordering) sent(t *testing.T, unacknowledged string) string {
	t.Helper()
	c := &calls{ordering: o, unacknowledged: unacknowledged}
	if err := o.advance(c); err != nil {
		t.Fatal(err)
	}
	return strings.ReplaceAll(strings.Join(c.got, " "), "+ScopedRouteConfiguration +ClusterLoadAssignment", "+ClusterLoadAssignment +ScopedRouteConfiguration")
}

const (
	allRemovals    = "-Listener -ScopedRouteConfiguration -RouteConfiguration -VirtualHost -Cluster -ClusterLoadAssignment -Secret"
	withoutWaiting = "+Cluster +ClusterLoadAssignment +ScopedRouteConfiguration"
	allAdditions   = withoutWaiting + " +Listener"
)

func TestOrderWithoutWaits(t *testing.T) {
	o := newOrdering(newParts(t))
	if got, want := o.sent(t, ""), allAdditions+" "+allRemovals; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Listeners wait for clusters and scopes, and removals wait for all. Once the proxy has answered those that listeners waited
// for, these come before further clusters and scopes.
func TestOrderWaitsForAnswers(t *testing.T) {
	for _, behind := range []string{envoy.ClusterType, envoy.ScopedRouteType} {
		t.Run(shortType(behind), func(t *testing.T) {
			o := newOrdering(newParts(t))
			sub := o.subs.of(behind)
			if got, want := o.sent(t, behind), withoutWaiting; got != want {
				t.Errorf("got %q, want %q", got, want)
			}
			if got, want := o.sent(t, ""), withoutWaiting; got != want {
				t.Errorf("without an answer got %q, want %q", got, want)
			}
			sub.answered()
			if got, want := o.sent(t, behind), "+Listener "+withoutWaiting; got != want {
				t.Errorf("after the answer got %q, want %q", got, want)
			}
			sub.overdue = true
			if got, want := o.sent(t, ""), "+Listener "+allAdditions+" "+allRemovals; got != want {
				t.Errorf("when the answer is overdue got %q, want %q", got, want)
			}
			if got, want := o.sent(t, ""), allAdditions+" "+allRemovals; got != want {
				t.Errorf("after that got %q, want %q", got, want)
			}
		})
	}
}

// Removals wait for listeners, and then each for the one before.
func TestRemovalsWaitForAnswers(t *testing.T) {
	o := newOrdering(newParts(t))
	if got, want := o.sent(t, envoy.ListenerType), allAdditions; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	o.subs.of(envoy.ListenerType).answered()
	c := &calls{ordering: o, unacknowledgedGone: envoy.ScopedRouteType}
	if err := o.advance(c); err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Join(c.got[4:], " "), "-Listener -ScopedRouteConfiguration"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestOrderWaitsForWarmClusters(t *testing.T) {
	p := newParts(t)
	p.set("", "a")
	o := newOrdering(p)
	p.warming.sent([]*entry{p.entry(envoy.ClusterType, "a")}, 1)
	o.subs.last = 1
	for range 2 {
		if got, want := o.sent(t, ""), withoutWaiting; got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	p.warming.giveUp()
	if got, want := o.sent(t, ""), "+Listener "+allAdditions+" "+allRemovals; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Nothing is removed while a proxy that comes back lists what it has.
func TestNothingIsRemovedAtFirst(t *testing.T) {
	o := newOrdering(newParts(t))
	o.resumption.take(o.subs.of(envoy.EndpointType), map[string]string{"a": "1"})
	if got := o.sent(t, ""); got != allAdditions {
		t.Errorf("while the proxy lists what it has got %q, want %q", got, allAdditions)
	}
	o.resumption.end()
	if got, want := o.sent(t, ""), allAdditions+" "+allRemovals; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// Listeners wait until a proxy that comes back has listed its scopes, or has had the time to. Scopes that are missing go
// before them, even if listeners have waited for some response before.
func TestListenersWaitForTheListOfScopes(t *testing.T) {
	for name, listed := range map[string]func(o *ordering){
		"it lists them": func(o *ordering) { o.subs.open(envoy.ScopedRouteType) },
		"it does not":   func(o *ordering) { o.resumption.end() },
	} {
		t.Run(name, func(t *testing.T) {
			o := newOrdering(newParts(t))
			delete(o.subs.byType, envoy.ScopedRouteType)
			o.resumption.take(o.subs.of(envoy.ClusterType), map[string]string{"a": "1"})
			o.subs.last, o.heldUp = 1, 1
			const want = "+Cluster +ClusterLoadAssignment"
			for range 2 {
				if got := o.sent(t, ""); got != want {
					t.Errorf("got %q, want %q", got, want)
				}
				o.subs.last++
			}
			listed(o)
			if got := o.sent(t, ""); !strings.HasPrefix(got, want) || !strings.Contains(got, "+Listener") {
				t.Errorf("after that got %q, want listeners at the end", got)
			}
		})
	}
}

func TestOrderStopsAtAnError(t *testing.T) {
	o := newOrdering(newParts(t))
	broken := errors.New("broken")
	c := &calls{ordering: o, err: broken}
	if err := o.advance(c); !errors.Is(err, broken) || len(c.got) != 1 {
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
