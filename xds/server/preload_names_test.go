package server

import (
	"maps"
	"slices"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// What a proxy asks for is preloaded to the pods of its workload, unless it was preloaded already or is made on demand.
func TestNamesToPreload(t *testing.T) {
	p := newParts(t)
	p.set("", "cart", "made", "pay")
	p.store.OnDemand(func(id envoy.ID) bool { return id.Name == "made" })
	names := func() []string {
		seen := map[string]bool{}
		for name := range p.preload.names(envoy.ClusterType) {
			seen[name] = true
		}
		return slices.Sorted(maps.Keys(seen))
	}
	equal(t, "at first", names())
	for _, name := range []string{"cart", "made", "none"} {
		p.preload.noteUse(envoy.ID{Type: envoy.RouteType, Name: name})
	}
	p.preload.noteUse(envoy.ID{Type: envoy.EndpointType, Name: "pay"})
	equal(t, "after a use", names(), "cart")
	for name, want := range map[string]bool{"cart": true, "pay": false, "none": false} {
		if got := p.preload.includes(envoy.ID{Type: envoy.RouteType, Name: name}); got != want {
			t.Errorf("route %s: includes is %v", name, got)
		}
	}
	p.node.ConfigScope = config.ScopeDemand
	equal(t, "scope demand", names())
	p.node.ConfigScope = ""
	p.preload.bounds.WholeMesh = 3
	equal(t, "small mesh", names(), "cart", "made", "pay")
	p.preload.noteUse(envoy.ID{Type: envoy.RouteType, Name: "pay"})
	p.preload.bounds.WholeMesh = 2
	equal(t, "large mesh", names(), "cart")
}
