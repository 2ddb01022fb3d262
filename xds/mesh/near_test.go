package mesh

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// hinted returns endpoints with the last parts 1, 2, ... of their addresses, each with its hints: "n1@east" for a node and a zone.
func hinted(hints ...string) []Endpoint {
	var out []Endpoint
	for i, h := range hints {
		e := Endpoint{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte((i + 1) / 256), byte(i + 1)}), 80)}
		node, zone, _ := strings.Cut(h, "@")
		if node != "" {
			e.ForNodes = strings.Split(node, "+")
		}
		if zone != "" {
			e.ForZones = strings.Split(zone, "+")
		}
		out = append(out, e)
	}
	return out
}

// levelsText returns the places with the last parts of the addresses of each level: "east: 1 2 | 3".
func levelsText(places map[string]Nearby) string {
	var out []string
	for _, place := range slices.Sorted(maps.Keys(places)) {
		var levels []string
		for _, level := range places[place] {
			var parts []string
			for _, e := range level {
				parts = append(parts, fmt.Sprint(e.Addr.Addr().As4()[3]))
			}
			levels = append(levels, strings.Join(parts, " "))
		}
		out = append(out, place+": "+strings.Join(levels, " | "))
	}
	return strings.Join(out, ", ")
}

func TestNear(t *testing.T) {
	for name, c := range map[string]struct {
		hints        []string
		nodes, zones string
	}{
		"no endpoints":              {},
		"no hints":                  {hints: []string{"", ""}},
		"zones":                     {hints: []string{"@east", "@west", "@east"}, zones: "east: 1 3 | 2, west: 2 | 1 3"},
		"one zone":                  {hints: []string{"@east", "@east"}, zones: "east: 1 2"},
		"an endpoint for two zones": {hints: []string{"@east+west", "@east"}, zones: "east: 1 2, west: 1 | 2"},
		"one without a zone":        {hints: []string{"@east", ""}},
		"nodes":                     {hints: []string{"n1@east", "n2@east", "n3@west"}, nodes: "n1: 1 | 2 | 3, n2: 2 | 1 | 3, n3: 3 | 1 2", zones: "east: 1 2 | 3, west: 3 | 1 2"},
		"one without a node":        {hints: []string{"n1@east", "@east"}, zones: "east: 1 2"},
		"nodes without zones":       {hints: []string{"n1", "n2"}, nodes: "n1: 1 | 2, n2: 2 | 1"},
	} {
		t.Run(name, func(t *testing.T) {
			nodes, zones := Near(hinted(c.hints...))
			if diff := cmp.Diff([]string{c.nodes, c.zones}, []string{levelsText(nodes), levelsText(zones)}); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// What all nodes fall back to together grows with the endpoints alone, and is spread over them.
func TestNearOfManyNodes(t *testing.T) {
	const n = 100
	var hints []string
	for i := range n {
		hints = append(hints, fmt.Sprintf("n%d@east", i))
	}
	nodes, _ := Near(hinted(hints...))
	total, counts := 0, map[netip.AddrPort]int{}
	for _, levels := range nodes {
		for i, level := range levels {
			total += len(level)
			for _, e := range level {
				if i > 0 {
					counts[e.Addr]++
				}
			}
		}
	}
	if want := n * (1 + fallbacks); len(nodes) != n || total != want {
		t.Errorf("%d nodes with %d endpoints, want %d and %d", len(nodes), total, n, want)
	}
	fewer, _ := Near(hinted(hints...)[1:])
	moved := 0
	for node, levels := range fewer {
		if before := nodes[node]; !slices.EqualFunc(before, levels, func(a, b []Endpoint) bool {
			return slices.EqualFunc(a, b, func(a, b Endpoint) bool { return a.Addr == b.Addr })
		}) {
			moved++
		}
	}
	if moved > 3*fallbacks {
		t.Errorf("without one endpoint %d nodes have others", moved)
	}
	if most := slices.Max(slices.Collect(maps.Values(counts))); most > 5*fallbacks || len(counts) < n*3/4 {
		t.Errorf("%d endpoints are fallbacks, one of them of %d nodes", len(counts), most)
	}
}

// Hints of endpoints that are on their way out say nothing: they are used only if no other is there.
func TestHintsOfEndpoints(t *testing.T) {
	svc := &Service{Key: Key{"shop", "cart"}, ClusterIPs: []netip.Addr{netip.MustParseAddr("10.96.0.1")}, Ports: []Port{{Number: 80}}}
	hints := func(zone string) *discoveryv1.EndpointHints {
		return &discoveryv1.EndpointHints{ForZones: []discoveryv1.ForZone{{Name: zone}}}
	}
	ending := discoveryv1.EndpointConditions{Ready: new(false), Serving: new(true), Terminating: new(true)}
	for name, c := range map[string]struct {
		endpoints []discoveryv1.Endpoint
		zones     string
	}{
		"one is on its way out":     {[]discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Hints: hints("east")}, {Addresses: []string{"10.0.0.2"}, Conditions: ending}}, "east: 1"},
		"all are on their way out":  {[]discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Hints: hints("east"), Conditions: ending}}, ""},
		"one is not there for sure": {[]discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, Hints: hints("east")}, {Addresses: []string{"10.0.0.2"}}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			slice := &discoveryv1.EndpointSlice{
				ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "cart-1"}, AddressType: discoveryv1.AddressTypeIPv4,
				Ports: []discoveryv1.EndpointPort{{Port: new(int32(80))}}, Endpoints: c.endpoints,
			}
			endpoints, _ := Endpoints(svc, []*discoveryv1.EndpointSlice{slice}, nil)
			_, zones := Near(endpoints[EndpointsKey{Service: svc.Key, Port: 80, Family: IPv4}])
			if diff := cmp.Diff(c.zones, levelsText(zones)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrefersNear(t *testing.T) {
	for name, c := range map[string]struct {
		svc  corev1.Service
		want bool
	}{
		"no":        {},
		"same zone": {corev1.Service{Spec: corev1.ServiceSpec{TrafficDistribution: new(corev1.ServiceTrafficDistributionPreferSameZone)}}, true},
		"auto":      {corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.AnnotationTopologyMode: "Auto"}}}, true},
		"hints":     {corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.DeprecatedAnnotationTopologyAwareHints: "auto"}}}, true},
		"hints come first": {corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{
			corev1.DeprecatedAnnotationTopologyAwareHints: "disabled", corev1.AnnotationTopologyMode: "Auto",
		}}}, false},
		"auto disabled": {corev1.Service{ObjectMeta: metav1.ObjectMeta{Annotations: map[string]string{corev1.AnnotationTopologyMode: "Disabled"}}}, false},
	} {
		if got := prefersNear(&c.svc); got != c.want {
			t.Errorf("%s: got %t", name, got)
		}
	}
}
