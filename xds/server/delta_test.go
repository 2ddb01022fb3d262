package server

import (
	"errors"
	"fmt"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func newDelta(p *parts) *delta {
	o := newOrdering(p)
	return &delta{
		store: p.store, lookup: &p.lookup, subs: &p.subs, absents: &absents{},
		pending: &p.pending, ordering: o, resumption: o.resumption,
	}
}

func (d *delta) both(t *testing.T, sub *subscription) (set, missing, gone []string) {
	t.Helper()
	d.pending.take(d.store)
	entries, missing, err := d.additions(sub)
	if err != nil {
		t.Fatal(err)
	}
	gone, err = d.removals(sub)
	if err != nil {
		t.Fatal(err)
	}
	return namesOf(entries), missing, gone
}

func TestDeltaOfNames(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.EndpointType)
	check := func(when string, wantSet, wantMissing, wantGone []string) {
		t.Helper()
		set, missing, gone := d.both(t, sub)
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

// Two revisions are all that is kept of a followed type.
func TestDeltaByRevision(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	sub := p.subs.of(envoy.ScopedRouteType)
	p.set("1", "a", "b")
	set, _, gone := d.both(t, sub)
	equal(t, "first", set, "a", "b")
	equal(t, "first, gone", gone)
	p.set("2", "b")
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.ScopedRouteType, Name: "a"}}})
	if _, _, err := d.additions(sub); !errors.Is(err, errLater) {
		t.Errorf("got error %v before the change is taken, want errLater", err)
	}
	set, _, gone = d.both(t, sub)
	equal(t, "changed", set, "b")
	equal(t, "removed", gone, "a")
	if len(sub.sent) != 0 {
		t.Errorf("%d names are kept", len(sub.sent))
	}
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
	set, _, _ := d.both(t, sub)
	equal(t, "first response", set, "a", "b")
	set, _, _ = d.both(t, sub)
	equal(t, "second response", set, "c")
}

// Names that do not exist are answered in a form that Envoy takes for an answer, up to a bound.
func TestAnswersForAbsentNames(t *testing.T) {
	a, sub := &absents{}, newSubscription(envoy.RouteType)
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
	a.forget("0")
	if a.answer(sub, "one more", true) == nil {
		t.Error("a name that is forgotten makes no room")
	}
}
