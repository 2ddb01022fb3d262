package server

import (
	"fmt"
	"testing"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func TestLookupByClass(t *testing.T) {
	p := newParts(t)
	p.apply(envoy.Change{Set: []envoy.Resource{inbound("open"), inbound("shut")}})
	if p.lookup.exists(envoy.InboundListener) || p.lookup.unknown(envoy.ListenerType) {
		t.Error("a class counts in a mesh without classes")
	}
	p.lookup.classes = true
	if p.lookup.entry(envoy.InboundListener) != nil || !p.lookup.exists(envoy.InboundListener) {
		t.Error("the listener of a pod whose class is not known may exist, but is not there")
	}
	if !p.lookup.unknown(envoy.ListenerType) || p.lookup.unknown(envoy.ClusterType) {
		t.Error("listeners wait for the class, and nothing else does")
	}
	versions := map[string]bool{}
	for _, class := range []string{"open", "shut"} {
		p.apply(envoy.Change{Classes: map[node.Pod]string{p.node.Of(): class}})
		versions[p.entry(envoy.ListenerType, "inbound").version] = true
	}
	if len(versions) != 2 || p.lookup.unknown(envoy.ListenerType) {
		t.Errorf("%d listeners for two classes", len(versions))
	}
}

// A proxy is to have the scopes by which it asks, of what it has asked for, and of destinations that have routes. The store
// has none of them.
func TestLookupOfScopes(t *testing.T) {
	p := newParts(t)
	p.set("", "a")
	p.demands.ask("asked")
	for name, want := range map[string]bool{"ask": true, "a": true, "asked": true, "none": false} {
		id := envoy.ID{Type: envoy.ScopedRouteType, Name: name}
		e := p.lookup.entry(id)
		if (e != nil) != want || p.lookup.exists(id) != want {
			t.Errorf("scope %q: got %v, exists is %v, want %v", name, e, p.lookup.exists(id), want)
		}
		if want && (e.name != name || !isScope(name, e.version) || isScope(name+"x", e.version) || isScope(name, "older")) {
			t.Errorf("scope %q is not told from others", name)
		}
	}
	var scope routev3.ScopedRouteConfiguration
	unmarshal(t, scopeEntry("a"), &scope)
	if key := scope.Key.Fragments[0].GetStringKey(); key != "a" || scope.RouteConfigurationName != "a" || scope.OnDemand {
		t.Errorf("got %v", &scope)
	}
	scope.Reset()
	unmarshal(t, scopeEntry("ask"), &scope)
	if key := scope.Key.Fragments[0].GetStringKey(); key != "ask" || scope.RouteConfiguration == nil {
		t.Errorf("got %v", &scope)
	}
}

// A resource on demand that is not made yet may exist. Beyond the bound it does not exist for this proxy, even when it
// was made for another.
func TestLookupOnDemand(t *testing.T) {
	p := newParts(t)
	made := p.store.OnDemand(func(id envoy.ID) bool { return id.Type == envoy.ClusterType })
	id := func(i int) envoy.ID { return envoy.ID{Type: envoy.ClusterType, Name: fmt.Sprint(i)} }
	for i := range maxMade + 1 {
		p.watches.add(id(i))
	}
	if got := testutil.ToFloat64(p.watches.metrics.beyond); got != 1 {
		t.Errorf("%v names are counted as too many, want 1", got)
	}
	if !p.lookup.exists(id(0)) || p.lookup.entry(id(0)) != nil {
		t.Error("what is not made yet may exist, but is not there")
	}
	p.set("", "0", fmt.Sprint(maxMade))
	if p.lookup.entry(id(0)) == nil || p.lookup.exists(id(maxMade)) {
		t.Error("a proxy gets what it asked for within the bound, and nothing else")
	}
	if wanted, unwanted := made.Take(); len(wanted) != maxMade || len(unwanted) != 0 {
		t.Errorf("%d are wanted and %d are not, want %d and 0", len(wanted), len(unwanted), maxMade)
	}
	p.watches.remove(id(1))
	p.watches.add(id(maxMade))
	if p.lookup.entry(id(maxMade)) == nil {
		t.Error("a name that was given up has made no room")
	}
	if wanted, unwanted := made.Take(); len(wanted) != 1 || len(unwanted) != 1 {
		t.Errorf("%q are wanted and %q are not, want one each", wanted, unwanted)
	}
}

// unmarshal reads what a proxy reads of an entry.
func unmarshal(t *testing.T, e *entry, m proto.Message) {
	t.Helper()
	var res discoveryv3.DeltaDiscoveryResponse
	if err := proto.Unmarshal(e.wire.ReadOnlyData(), &res); err != nil {
		t.Fatal(err)
	}
	if err := res.Resources[0].Resource.UnmarshalTo(m); err != nil {
		t.Fatal(err)
	}
}
