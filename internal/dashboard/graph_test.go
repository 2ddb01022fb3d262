package dashboard

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestGraph(t *testing.T) {
	web, cart, job := Workload{"shop", "Deployment/web"}, Workload{"shop", "Deployment/cart"}, Workload{"jobs", "Job/load"}
	services := []Service{
		{Namespace: "shop", Name: "web-canary", Workloads: []Workload{web}, Pods: 1, Meshed: 1},
		{Namespace: "shop", Name: "web", Workloads: []Workload{web}, Pods: 2, Meshed: 2},
		{Namespace: "shop", Name: "cart", Workloads: []Workload{cart}, Pods: 2, Meshed: 1},
		{Namespace: "shop", Name: "never-called", Pods: 1},
	}
	call := func(from Workload, service string, port uint16, requests, failed int64, perSecond float64, p99 *float64) Call {
		return Call{From: from, Namespace: "shop", Service: service, Port: port, Requests: requests, Failed: failed, PerSecond: perSecond, P99: p99}
	}
	got, calls := build(Traffic{Services: services, Calls: []Call{
		call(job, "web", 80, 10, 1, 1, new(5.0)),
		call(web, "cart", 80, 20, 0, 2, new(7.0)),
		call(web, "cart", 81, 30, 3, 3, new(2.0)),
		call(cart, "cart", 80, 1, 0, 0.1, nil),
		{From: cart, Namespace: "data", Service: "db", Port: 5432, Open: 2, FailedToConnect: 1, Bytes: 99},
		{From: Workload{"old", "Pod/plain"}, Namespace: "shop", Service: "web", Port: 80, Plain: true},
	}})
	want := Graph{
		Nodes: []Node{
			{ID: "service/data/db", Namespace: "data", Name: "db", Service: true},
			{ID: "service/shop/cart", Namespace: "shop", Name: "cart", Service: true, Workloads: []string{"Deployment/cart"}, Pods: 2, Meshed: 1},
			{ID: "service/shop/web", Namespace: "shop", Name: "web", Service: true, Workloads: []string{"Deployment/web"}, Pods: 2, Meshed: 2},
			{ID: "workload/jobs/Job/load", Namespace: "jobs", Name: "Job/load"},
			{ID: "workload/old/Pod/plain", Namespace: "old", Name: "Pod/plain"},
		},
		Edges: []Edge{
			{From: "service/shop/cart", To: "service/data/db", Open: 2, FailedToConnect: 1, Bytes: 99},
			{From: "service/shop/cart", To: "service/shop/cart", Requests: 1, PerSecond: 0.1, MTLS: "some"},
			{From: "service/shop/web", To: "service/shop/cart", Requests: 50, Failed: 3, PerSecond: 5, P99: new(7.0), MTLS: "some"},
			{From: "workload/jobs/Job/load", To: "service/shop/web", Requests: 10, Failed: 1, PerSecond: 1, P99: new(5.0), MTLS: "all"},
			{From: "workload/old/Pod/plain", To: "service/shop/web", MTLS: "none", plain: true},
		},
	}
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(Edge{})); diff != "" {
		t.Errorf("graph (-want +got):\n%s", diff)
	}
	if len(calls) != 6 || calls[1].FromNode != "service/shop/web" || calls[1].ToNode != "service/shop/cart" {
		t.Errorf("calls %+v", calls)
	}
}

// An edge has its last points, also those without calls, and stays in the graph as long as one of them has any.
func TestHistory(t *testing.T) {
	h := newHistory()
	read := func(perSecond ...float64) Graph {
		g := Graph{Nodes: []Node{{ID: "a"}}}
		for i, n := range perSecond {
			if n >= 0 {
				id := string(rune('b' + i))
				g.Nodes = append(g.Nodes, Node{ID: id})
				g.Edges = append(g.Edges, Edge{From: "a", To: id, Requests: 10, Failed: 5, PerSecond: n})
			}
		}
		h.add(g, 5)
		h.quiet(&g)
		return g
	}
	rates := func(node string) (out []float64) {
		for _, p := range h.of(node) {
			out = append(out, p.PerSecond)
			if p.Failed != p.PerSecond/2 || p.Seconds != 5 {
				t.Errorf("%+v, want half to fail, in 5 s", p)
			}
		}
		return out
	}
	read(1)
	read(3, 2)
	if g := read(4); len(g.Edges) != 2 || len(g.Nodes) != 3 || g.Edges[1].PerSecond != 0 {
		t.Errorf("%+v, want the quiet edge and its node, too", g)
	}
	read(1, 5)
	for node, want := range map[string][]float64{"b": {1, 3, 4, 1}, "c": {2, 0, 5}, "a": {1, 5, 4, 6}, "z": nil} {
		if got := rates(node); !slices.Equal(got, want) {
			t.Errorf("history of %s: %v, want %v", node, got, want)
		}
	}
	var g Graph
	for range points {
		g = read(7)
	}
	if got := rates("b"); len(got) != points || slices.Max(got) != 7 || slices.Min(got) != 7 {
		t.Errorf("%d points from %g to %g", len(got), slices.Min(got), slices.Max(got))
	}
	if len(h.edges) != 1 || len(h.nodes) != 2 || len(g.Edges) != 1 {
		t.Errorf("%d edges and %d nodes are remembered, and %d shown, want 1, 2, 1", len(h.edges), len(h.nodes), len(g.Edges))
	}
	many := Graph{Edges: make([]Edge, maxEdges+10)}
	for i := range many.Edges {
		many.Edges[i].From = string(rune(0x10000 + i))
	}
	h.add(many, 5)
	if len(h.edges) > maxEdges {
		t.Errorf("%d edges are remembered, want at most %d", len(h.edges), maxEdges)
	}
}
