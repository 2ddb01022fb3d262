package server

import (
	"slices"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// newScoped returns the parts of a proxy that has subscribed to all scopes, and to some routes.
func newScoped(t *testing.T) *parts {
	p := newParts(t)
	scopes, _ := p.subs.open(envoy.ScopedRouteType)
	scopes.all = true
	p.subs.open(envoy.RouteType)
	p.demands.begin(scopes)
	return p
}

// tell takes what is dirty of scopes and routes for sent.
func (p *parts) tell() {
	for _, typeURL := range []string{envoy.ScopedRouteType, envoy.RouteType} {
		sub := p.subs.of(typeURL)
		for name := range sub.dirty {
			sub.sent[name] = "1"
			sub.done(name)
		}
	}
}

// asks makes the proxy ask for routes, as it does when a scope comes.
func (p *parts) asks(routes ...string) {
	for _, name := range routes {
		p.subs.subscribe(p.subs.of(envoy.RouteType), name, false)
	}
}

// A demand is answered when the proxy was sent the scope, has asked for the routes, and was sent them.
func TestAnswerToADemand(t *testing.T) {
	p := newScoped(t)
	now := time.Now()
	p.demands.ask("a")
	equal(t, "scopes to send", p.subs.of(envoy.ScopedRouteType).dirty.sorted(), "a", "ask")
	for _, step := range []struct {
		when string
		do   func()
		want []string
	}{
		{"at once", func() {}, nil},
		{"after the scope", p.tell, nil},
		{"after the proxy has asked for routes", func() { p.asks("a") }, nil},
		{"when they are answered", p.tell, []string{"demand/a"}},
		{"after the answer", func() {}, nil},
	} {
		step.do()
		equal(t, step.when, p.demands.answers(now), step.want...)
	}
}

// Routes that a proxy has asked for because of a scope that has gone do not count: it gives them up, and waits for the scope.
func TestAnswerWaitsForTheScope(t *testing.T) {
	p := newScoped(t)
	p.set("", "a")
	p.subs.need(p.subs.of(envoy.ScopedRouteType), "a")
	p.asks("a")
	p.tell()
	delete(p.subs.of(envoy.ScopedRouteType).sent, "a") // it was told so, and may not have read it
	p.demands.ask("a")
	equal(t, "before the scope", p.demands.answers(time.Now()))
	equal(t, "scopes to send", p.subs.of(envoy.ScopedRouteType).dirty.sorted(), "a")
	p.subs.unsubscribe(p.subs.of(envoy.RouteType), "a")
	p.tell()
	equal(t, "before the routes", p.demands.answers(time.Now()))
	p.asks("a")
	p.tell()
	equal(t, "after both", p.demands.answers(time.Now()), "demand/a")
}

// What a proxy asks for before it subscribes to scopes waits for that.
func TestDemandBeforeTheScopes(t *testing.T) {
	p := newParts(t)
	p.demands.ask("a")
	p.demands.changed("a")
	equal(t, "without scopes", p.demands.answers(time.Now()))
	p.set("", "b", "c")
	p.preload.bounds.WholeMesh = 2
	scopes, _ := p.subs.open(envoy.ScopedRouteType)
	scopes.all = true
	p.demands.begin(scopes)
	equal(t, "scopes to send", scopes.dirty.sorted(), "a", "ask", "b", "c")
	equal(t, "because of a request", scopes.requested.sorted(), "a", "ask", "b", "c")
	p.subs.open(envoy.RouteType)
	p.tell()
	p.asks("a", "b")
	p.tell()
	equal(t, "at the end", p.demands.answers(time.Now()), "demand/a")
}

// Each answer is given again at some times after it, whatever comes in between, and then no more. A demand that is made once
// more on the same stream is answered once.
func TestRepetitions(t *testing.T) {
	p := newScoped(t)
	start := time.Now()
	answered := func(after time.Duration, want ...string) {
		t.Helper()
		equal(t, after.String(), p.demands.answers(start.Add(after)), want...)
	}
	ask := func(destinations ...string) {
		for _, destination := range destinations {
			p.demands.ask(destination)
		}
		p.asks(destinations...)
		p.tell()
	}
	first, second := repeats[0], repeats[1]
	ask("b", "a")
	answered(0, "demand/a", "demand/b")
	ask("c")
	answered(first-1, "demand/c")
	answered(first - 1)
	answered(first, "demand/a", "demand/b")
	ask("a", "d")
	answered(2*first, "demand/c", "demand/a", "demand/d")
	answered(second-1, "demand/d") // the first repetition
	answered(second, "demand/a", "demand/b")
	answered(second+first, "demand/c")
	answered(second+2*first, "demand/d")
	answered(time.Hour)
	if len(p.demands.again) > 0 {
		t.Errorf("%v are kept", p.demands.again)
	}
}

// The timer fires when the next repetition is due.
func TestTimerOfRepetitions(t *testing.T) {
	p := newScoped(t)
	p.demands.ask("a")
	p.asks("a")
	p.tell()
	began := time.Now()
	p.demands.answers(began)
	for _, after := range repeats {
		select {
		case at := <-p.demands.timer.C:
			if took := at.Sub(began); took < after {
				t.Errorf("fired after %v, want %v", took, after)
			}
		case <-time.After(10 * time.Second):
			t.Fatalf("did not fire for the repetition after %v", after)
		}
		equal(t, "then", p.demands.answers(time.Now()), "demand/a")
	}
	if p.demands.timer.Stop() {
		t.Error("the timer runs on")
	}
}

// A scope is wanted that the proxy asked for, by which it asks, or that has routes.
func TestScopesFollowRoutes(t *testing.T) {
	p := newScoped(t)
	scopes := p.subs.of(envoy.ScopedRouteType)
	p.tell()
	p.set("", "a", "b")
	changed := func(when string, want ...string) {
		t.Helper()
		for _, destination := range []string{"a", "b", "none", "outbound/a"} {
			p.demands.changed(destination)
		}
		equal(t, when, scopes.dirty.sorted(), want...)
		p.tell()
	}
	changed("where nothing is preloaded")
	p.preload.bounds.WholeMesh = 2
	changed("preloaded", "a", "b")
	equal(t, "because of a request", scopes.requested.sorted(), "ask")
	p.demands.ask("a")
	p.tell()
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.RouteType, Name: "a"}, {Type: envoy.RouteType, Name: "b"}}})
	changed("gone", "a", "b")
	for name, want := range map[string]bool{"a": true, "ask": true, "b": false, "none": false} {
		if got := p.demands.wants(name); got != want {
			t.Errorf("scope %q: wanted is %v", name, got)
		}
	}
	p.preload.bounds.WholeMesh = 0
	p.subs.release(scopes, "b")
	p.set("", "a", "b")
	changed("back, where nothing is preloaded", "a")
}

// A scope that is needed, but whose routes went before it could be sent, is sent to who asks for it.
func TestDemandForAScopeThatWasNotSent(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	scopes := p.subs.of(envoy.ScopedRouteType)
	p.set("", "a")
	p.preload.bounds.WholeMesh = 1
	p.demands.changed("a")
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.RouteType, Name: "a"}}})
	set, _, gone := d.both(scopes)
	equal(t, "without routes", append(set, gone...))
	p.demands.ask("a")
	set, _, _ = d.both(scopes)
	equal(t, "asked for", set, "a")
}

// The clusters of a destination that the proxy asks for are sent before it asks for the routes.
func TestClustersOfDemands(t *testing.T) {
	p := newScoped(t)
	p.set("", "a", "b")
	clusters, _ := p.subs.open(envoy.ClusterType)
	p.demands.ask("a")
	p.subs.needClusters(p.demands.open)
	equal(t, "of a proxy that chooses its clusters itself", clusters.needed.sorted())
	clusters.all = true
	p.demands.ask("none")
	p.subs.needClusters(p.demands.open)
	equal(t, "needed", clusters.needed.sorted(), "a")
	equal(t, "requested", clusters.requested.sorted(), "a")
}

func TestNamesOfDemands(t *testing.T) {
	clusters, routes := newSubscription(envoy.ClusterType), newSubscription(envoy.RouteType)
	for _, test := range []struct {
		sub         *subscription
		name        string
		destination string
		is          bool
	}{
		{clusters, envoy.Demand("10.0.0.1:80"), "10.0.0.1:80", true},
		{clusters, envoy.Demand("[fd00::1]:80"), "[fd00::1]:80", true},
		{clusters, "10.0.0.1:80", "", false},
		{clusters, "demand", "", false},
		{clusters, "outbound/shop/demand/80", "", false},
		{routes, envoy.Demand("10.0.0.1:80"), "", false},
	} {
		destination, is := demanded(test.sub, test.name)
		if is != test.is || is && destination != test.destination {
			t.Errorf("%s %q: got %q, %v", shortType(test.sub.typeURL), test.name, destination, is)
		}
	}
	if !slices.IsSorted([]time.Duration{0, repeats[0], repeats[1]}) {
		t.Errorf("repetitions %v are not in order", repeats)
	}
}
