package mesh

import (
	"cmp"
	"maps"
	"slices"

	"github.com/cespare/xxhash/v2"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/util/sets"
)

// Nearby has the endpoints for callers of one place in levels, the nearest first. No level is empty. A level gets calls if those
// before it cannot be reached.
type Nearby [][]Endpoint

// fallbacks is how many endpoints of other nodes a node's callers fall back to: with all of them, the size of a Service's endpoints would
// grow with the square of its nodes.
const fallbacks = 10

// Near returns the endpoints for callers of each node and of each zone, as far as the hints of the EndpointSlices say what they are to
// use. Callers of a node that is not among them go by its zone; those of a zone that is not either use all endpoints.
//
// As in kube-proxy, hints count only if every ready endpoint has one of that kind, and only where there is an endpoint for the
// caller's place. Kube-proxy uses no others there; here they are the levels after.
// See https://kubernetes.io/docs/reference/networking/virtual-ips/#traffic-distribution
func Near(endpoints []Endpoint) (nodes, zones map[string]Nearby) {
	return near(endpoints, func(e Endpoint) []string { return e.ForNodes }, levelsOfNode),
		near(endpoints, func(e Endpoint) []string { return e.ForZones }, levelsOfZone)
}

func near(endpoints []Endpoint, places func(Endpoint) []string, levels func(place string, recommended, others []Endpoint) Nearby) map[string]Nearby {
	all := sets.Set[string]{}
	for _, e := range endpoints {
		if len(places(e)) == 0 {
			return nil
		}
		all.Insert(places(e)...)
	}
	out := make(map[string]Nearby, len(all))
	for place := range all {
		recommended, others := split(endpoints, func(e Endpoint) bool { return slices.Contains(places(e), place) })
		out[place] = levels(place, recommended, others)
	}
	return out
}

func levelsOfZone(_ string, recommended, others []Endpoint) Nearby {
	return levels(recommended, others)
}

// levelsOfNode goes by the zone of the node before it leaves it.
func levelsOfNode(node string, recommended, others []Endpoint) Nearby {
	zones := sets.Set[string]{}
	for _, e := range recommended {
		zones.Insert(e.ForZones...)
	}
	same, elsewhere := split(others, func(e Endpoint) bool { return zones.HasAny(e.ForZones...) })
	return levels(recommended, some(same, node), some(elsewhere, node))
}

func levels(of ...[]Endpoint) Nearby {
	return slices.DeleteFunc(of, func(level []Endpoint) bool { return len(level) == 0 })
}

func split(endpoints []Endpoint, in func(Endpoint) bool) (yes, no []Endpoint) {
	for _, e := range endpoints {
		if in(e) {
			yes = append(yes, e)
		} else {
			no = append(no, e)
		}
	}
	return yes, no
}

// some returns a few of the endpoints, others for each node, so that those nodes whose own endpoints fail do not meet at the same ones.
// They are those with the least hashes (rendezvous hashing): an endpoint that comes or goes changes few nodes' choices, and Envoy keeps
// what it knows of the others.
func some(endpoints []Endpoint, node string) []Endpoint {
	if len(endpoints) <= fallbacks {
		return endpoints
	}
	type ranked struct {
		hash uint64
		Endpoint
	}
	least := make([]ranked, 0, fallbacks+1)
	for _, e := range endpoints {
		r := ranked{xxhash.Sum64String(node + "@" + e.Addr.String()), e}
		if len(least) == fallbacks && r.hash >= least[fallbacks-1].hash {
			continue
		}
		i, _ := slices.BinarySearchFunc(least, r.hash, func(a ranked, hash uint64) int { return cmp.Compare(a.hash, hash) })
		least = slices.Insert(least, i, r)
		least = least[:min(len(least), fallbacks)]
	}
	out := make([]Endpoint, len(least))
	for i, r := range least {
		out[i] = r.Endpoint
	}
	slices.SortFunc(out, func(a, b Endpoint) int { return a.Addr.Compare(b.Addr) })
	return out
}

// hints returns the nodes and zones of an endpoint's hints, sorted.
func hints(h *discoveryv1.EndpointHints) (nodes, zones []string) {
	if h == nil {
		return nil, nil
	}
	n, z := sets.Set[string]{}, sets.Set[string]{}
	for _, node := range h.ForNodes {
		n.Insert(node.Name)
	}
	for _, zone := range h.ForZones {
		z.Insert(zone.Name)
	}
	return slices.Sorted(maps.Keys(n)), slices.Sorted(maps.Keys(z))
}

// prefersNear reports whether Kubernetes writes hints for a Service.
func prefersNear(svc *corev1.Service) bool {
	if svc.Spec.TrafficDistribution != nil {
		return true
	}
	mode, ok := svc.Annotations[corev1.DeprecatedAnnotationTopologyAwareHints] // comes first in Kubernetes, too
	if !ok {
		mode = svc.Annotations[corev1.AnnotationTopologyMode]
	}
	return mode == "Auto" || mode == "auto"
}
