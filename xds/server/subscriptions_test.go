package server

import (
	"strings"
	"testing"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// The store reports a name to the proxy as long as the proxy asks for it or needs it.
func TestWatchesFollowSubscriptions(t *testing.T) {
	p := newParts(t)
	sub, first := p.subs.open(envoy.ClusterType)
	if _, again := p.subs.open(envoy.ClusterType); !first || again {
		t.Error("a subscription is made once")
	}
	sub.all = true
	p.subs.subscribe(sub, "asked", false)
	p.subs.subscribe(sub, "both", true)
	p.subs.needOnRequest(sub, "both")
	p.subs.need(sub, "needed")
	equal(t, "asked", sortedKeys(sub.asked), "asked")
	equal(t, "requested", sortedKeys(sub.requested), "both")
	p.set("1", "asked", "both", "needed", "other")
	equal(t, "reported", p.changed(), "asked", "both", "needed")

	p.subs.unsubscribe(sub, "asked")
	p.subs.unsubscribe(sub, "both") // still needed
	p.set("2", "asked", "both", "needed")
	equal(t, "reported after unsubscribe", p.changed(), "both", "needed")

	p.subs.subscribe(sub, "needed", true)
	p.subs.unsubscribeAll(sub)
	p.set("3", "asked", "both", "needed")
	equal(t, "reported to a proxy that names what it wants", p.changed(), "needed")
	p.store.forget(&p.pending, p.subs.watched())
	if names, all := p.store.Watched(); names != 0 || all != 0 {
		t.Errorf("%d names are still watched, and %d types", names, all)
	}
}

// A proxy needs the clusters of the routes that it is about to get, and keeps needing those of routes that it has.
func TestClustersOfRoutes(t *testing.T) {
	p := newParts(t)
	p.set("", "a", "b")
	routes, _ := p.subs.open(envoy.RouteType)
	p.subs.subscribe(routes, "a", false)
	p.subs.needClusters(nil) // without a subscription to clusters
	clusters, _ := p.subs.open(envoy.ClusterType)
	clusters.all = true
	p.subs.needClusters(nil)
	equal(t, "needed", sortedKeys(clusters.needed), "a")
	equal(t, "requested", sortedKeys(clusters.requested), "a")
	equal(t, "referred before the routes are sent", sortedKeys(p.subs.referred()))
	routes.sent["a"] = "1"
	equal(t, "referred", sortedKeys(p.subs.referred()), "a")
}

func TestLimitsOfSubscriptions(t *testing.T) {
	p := newParts(t)
	for i := range maxTypes {
		p.subs.open(strings.Repeat("t", i))
	}
	for name, test := range map[string]struct {
		req     *discoveryv3.DeltaDiscoveryRequest
		asked   int
		refused bool
	}{
		"a type that is open": {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "t"}, 0, false},
		"one type too many":   {&discoveryv3.DeltaDiscoveryRequest{TypeUrl: "other"}, 0, true},
		"a long name":         {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{strings.Repeat("n", maxName)}}, 0, false},
		"too long a name":     {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: []string{strings.Repeat("n", maxName+1)}}, 0, true},
		"too long a name that is held": {
			&discoveryv3.DeltaDiscoveryRequest{InitialResourceVersions: map[string]string{strings.Repeat("n", maxName+1): "1"}}, 0, true,
		},
		"many names":                  {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: make([]string, maxNames)}, 0, false},
		"many names and destinations": {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: make([]string, maxNames-1)}, 1, false},
		"too many destinations":       {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: make([]string, maxNames-1)}, 2, true},
		"too many names":              {&discoveryv3.DeltaDiscoveryRequest{ResourceNamesSubscribe: make([]string, maxNames+1)}, 0, true},
	} {
		if err := p.subs.allowed(test.req, test.asked); (status.Code(err) == codes.ResourceExhausted) != test.refused {
			t.Errorf("%s: error %v", name, err)
		}
	}
}
