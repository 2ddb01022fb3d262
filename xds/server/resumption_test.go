package server

import (
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func newResumption(p *parts) *resumption {
	return &resumption{lookup: &p.lookup, subs: &p.subs, warming: &p.warming, wait: time.Hour}
}

// Scopes that a proxy brings along are kept up to date if they are those of this control plane. Others are none of its
// business, unless the proxy needs a scope of that name.
func TestHeldScopes(t *testing.T) {
	p := newParts(t)
	d := newDelta(p)
	p.set("", "a", "both", "old")
	p.demands.ask("asked")
	p.demands.ask("both")
	scopes := p.subs.of(envoy.ScopedRouteType)
	p.demands.begin(scopes)
	held := map[string]string{"both": "older", "old": "older", "older": "older", "outbound/ns/old/80": "older"}
	for _, name := range []string{"a", "ask", "asked", "gone"} {
		held[name] = scopeEntry(name).version
	}
	r := newResumption(p)
	r.take(scopes, held)
	d.resumption = r
	equal(t, "held", sortedKeys(scopes.sent), "a", "ask", "asked", "gone")
	equal(t, "needed", scopes.needed.sorted(), "a", "ask", "asked", "both", "gone")
	set, missing := d.additions(scopes)
	equal(t, "sent", append(namesOf(set), missing...), "both")
	r.end()
	later, missing, gone := d.both(scopes)
	equal(t, "sent later", append(later, missing...))
	equal(t, "removed", gone, "gone")
	equal(t, "needed at the end", scopes.needed.sorted(), "a", "ask", "asked", "both")

	// The routes of one that it has left alone go.
	p.apply(envoy.Change{Remove: []envoy.ID{{Type: envoy.RouteType, Name: "old"}}})
	p.demands.changed("old")
	_, _, gone = d.both(scopes)
	equal(t, "removed in the end", gone)
}

// A proxy that has said what it holds of other types has still to list its scopes, for a time.
func TestExpectsScopes(t *testing.T) {
	p := newParts(t)
	r := newResumption(p)
	clusters, _ := p.subs.open(envoy.ClusterType)
	if r.active() || r.expectsScopes() {
		t.Error("a proxy that holds nothing is expected to list something")
	}
	r.take(clusters, map[string]string{"a": "1"})
	if !r.active() || !r.expectsScopes() {
		t.Error("nothing is expected of a proxy that comes back")
	}
	over := r.over
	r.take(clusters, map[string]string{"b": "1"})
	if r.over != over {
		t.Error("the time begins anew")
	}
	p.subs.open(envoy.ScopedRouteType)
	if !r.active() || r.expectsScopes() {
		t.Error("scopes that are listed are expected")
	}
	delete(p.subs.byType, envoy.ScopedRouteType)
	r.end()
	if r.active() || r.expectsScopes() {
		t.Error("after the time something is expected")
	}
	r.take(clusters, map[string]string{"c": "1"})
	if r.active() {
		t.Error("the time begins twice")
	}
}

// What a proxy brings along is taken over with its version, and looked at.
func TestHeldVersions(t *testing.T) {
	p := newParts(t)
	p.set("", "a")
	r := newResumption(p)
	for _, typeURL := range []string{envoy.ClusterType, envoy.RouteType} {
		sub, _ := p.subs.open(typeURL)
		sub.all = typeURL == envoy.ClusterType
		version := p.entry(typeURL, "a").version
		r.take(sub, map[string]string{"a": version, "b": "1", "long": strings.Repeat("v", maxVersion+1)})
		equal(t, "held", sortedKeys(sub.sent), "a", "b", "long")
		equal(t, "dirty", sub.dirty.sorted(), "a", "b", "long")
		if sub.sent["a"] != version || sub.sent["b"] != "1" || sub.sent["long"] != "" {
			t.Errorf("got versions %v", sub.sent)
		}
		want := []string{"a", "b", "long"}
		if !sub.all {
			want = nil
		}
		equal(t, "needed", sub.needed.sorted(), want...)
	}
}
