package server

import (
	"fmt"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func newDelta(p *parts) *delta {
	o := newOrdering(p)
	return &delta{lookup: &p.lookup, subs: &p.subs, absents: &absents{ids: map[envoy.ID]struct{}{}}, pending: &p.pending, ordering: o, resumption: o.resumption}
}

func (d *delta) both(sub *subscription) (set, missing, gone []string) {
	d.pending.take(d.lookup.store)
	entries, missing := d.additions(sub)
	return namesOf(entries), missing, d.removals(sub)
}

func TestDeltaOfNames(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.EndpointType)
	check := func(when string, wantSet, wantMissing, wantGone []string) {
		t.Helper()
		set, missing, gone := d.both(sub)
		equal(t, when+", set", set, wantSet...)
		equal(t, when+", missing", missing, wantMissing...)
		equal(t, when+", gone", gone, wantGone...)
	}
	p.set("1", "a", "b")
	for _, name := range []string{"a", "b", "none"} {
		p.subs.subscribe(sub, name, false)
	}
	check("first", []string{"a", "b"}, []string{"none"}, nil)
	check("without a change", nil, nil, nil)
	sub.dirty.add("a")
	check("with the same version", nil, nil, nil)
	sub.askAgain("a")
	check("asked again", []string{"a"}, nil, nil)
	p.set("2", "a")
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.EndpointType, Name: "b"}}})
	sub.dirty.add("a")
	sub.dirty.add("b")
	check("changed and removed", []string{"a"}, nil, []string{"b"})
	sub.dirty.add("other")
	check("not wanted", nil, nil, nil)
	equal(t, "dirty", sortedKeys(sub.dirty))
}

// A scope comes and goes with the routes of its destination. One that the proxy has asked for comes in any case, and stays.
func TestDeltaOfScopes(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.ScopedRouteType)
	check := func(when string, wantSet, wantGone []string) {
		t.Helper()
		set, missing, gone := d.both(sub)
		equal(t, when+", set", set, wantSet...)
		equal(t, when+", missing", missing)
		equal(t, when+", gone", gone, wantGone...)
	}
	p.set("1", "a", "b")
	p.subs.need(sub, "a")
	p.demands.ask("b")
	p.demands.ask("none")
	check("first", []string{"a", "b", "none"}, nil)
	p.set("2", "a", "b")
	p.demands.changed("a")
	p.demands.changed("b")
	check("when the routes have changed", nil, nil)
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.RouteType, Name: "a"}, {Type: envoy.RouteType, Name: "b"}}})
	p.demands.changed("a")
	p.demands.changed("b")
	check("when the routes have gone", nil, []string{"a"})
	p.set("3", "a", "b")
	p.demands.changed("a")
	p.demands.changed("b")
	check("when they are back and not preloaded", nil, nil)
	p.demands.ask("a")
	check("when they are asked for", []string{"a"}, nil)
	equal(t, "held", sortedKeys(sub.sent), "a", "b", "none")
	equal(t, "dirty", sortedKeys(sub.dirty))
}

// Nothing is removed while changes wait to be taken: they may be of what refers to it.
func TestRemovalsWaitForPendingChanges(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.EndpointType)
	p.set("1", "a")
	p.subs.subscribe(sub, "a", false)
	d.both(sub)
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.EndpointType, Name: "a"}}})
	sub.dirty.add("a")
	equal(t, "while the change is pending", d.removals(sub))
	_, _, gone := d.both(sub)
	equal(t, "when it is taken", gone, "a")
}

// A response ends where it is large enough, and the next one continues.
func TestLargeDelta(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.EndpointType)
	big := string(make([]byte, maxResponse/2+1))
	p.set(big, "a", "b", "c")
	for _, name := range []string{"a", "b", "c"} {
		p.subs.subscribe(sub, name, false)
	}
	set, _, _ := d.both(sub)
	equal(t, "first response", set, "a", "b")
	set, _, _ = d.both(sub)
	equal(t, "second response", set, "c")
}

// Names that do not exist are answered in a form that Envoy takes for an answer, up to a bound.
func TestAnswersForAbsentNames(t *testing.T) {
	a, sub := &absents{ids: map[envoy.ID]struct{}{}}, newSubscription(envoy.RouteType)
	if a.answer(sub, "a", false) != nil {
		t.Error("a proxy without scopes gets routes that do not exist")
	}
	for i := range maxAbsent {
		if name := fmt.Sprint(i); a.answer(sub, name, true) == nil {
			t.Fatalf("name %d is not answered", i)
		}
	}
	if a.answer(sub, "one more", true) != nil || a.answer(sub, "0", true) == nil {
		t.Error("the bound holds for new names alone")
	}
	a.forget(envoy.ID{Type: envoy.ClusterType, Name: "0"})
	if a.answer(sub, "one more", true) != nil {
		t.Error("a cluster of the same name makes room")
	}
	a.forget(envoy.ID{Type: envoy.RouteType, Name: "0"})
	if a.answer(sub, "one more", true) == nil {
		t.Error("a name that is forgotten makes no room")
	}
}
