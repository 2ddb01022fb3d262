package server

import (
	"fmt"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

func TestLookupByClass(t *testing.T) {
	p := newParts(t)
	p.apply(envoy.Change{Set: []envoy.Resource{inbound("open"), inbound("shut")}})
	if p.lookup.exists(envoy.InboundListener) || p.lookup.unclassified(envoy.ListenerType) {
		t.Error("a class counts in a mesh without classes")
	}
	p.lookup.classes = true
	if p.lookup.entry(envoy.InboundListener) != nil || !p.lookup.exists(envoy.InboundListener) {
		t.Error("the listener of a pod whose class is not known may exist, but is not there")
	}
	if !p.lookup.unclassified(envoy.ListenerType) || p.lookup.unclassified(envoy.ClusterType) {
		t.Error("listeners wait for the class, and nothing else does")
	}
	versions := map[string]bool{}
	for _, class := range []string{"open", "shut"} {
		p.apply(envoy.Change{Classes: map[node.Pod]string{p.node.Of(): class}})
		versions[p.entry(envoy.ListenerType, "inbound").version] = true
	}
	if len(versions) != 2 || p.lookup.unclassified(envoy.ListenerType) {
		t.Errorf("%d listeners for two classes", len(versions))
	}
}

// A scope comes in the form for what is preloaded, or in the one for on demand.
func TestLookupOfScopes(t *testing.T) {
	p := newParts(t)
	p.apply(envoy.Change{Set: []envoy.Resource{
		{Type: envoy.ScopedRouteType, Name: "a", Namespace: "bank", Message: everything("a", "1")[3].Message},
		{Type: envoy.ScopedRouteType, Name: "a", Namespace: "bank", Variant: envoy.Ahead, Message: everything("a", "2")[3].Message},
		everything("b", "")[1], // one Service port
	}})
	onDemand := p.entry(envoy.ScopedRouteType, "a").version
	p.preload.bounds.WholeMesh = 1
	if p.entry(envoy.ScopedRouteType, "a").version == onDemand {
		t.Error("a preloaded scope came in the form for on demand")
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
