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
	got := build(Traffic{Services: services, Calls: []Call{
		call(job, "web", 80, 10, 1, 1, new(5.0)),
		call(web, "cart", 80, 20, 0, 2, new(7.0)),
		call(web, "cart", 81, 30, 3, 3, new(2.0)),
		call(cart, "cart", 80, 1, 0, 0.1, nil),
		{From: cart, Namespace: "data", Service: "db", Port: 5432, Open: 2, Bytes: 99},
	}})
	want := Graph{
		Nodes: []Node{
			{ID: "service/data/db", Namespace: "data", Name: "db", Service: true},
			{ID: "service/shop/cart", Namespace: "shop", Name: "cart", Service: true, Workloads: []string{"Deployment/cart"}, Pods: 2, Meshed: 1},
			{ID: "service/shop/web", Namespace: "shop", Name: "web", Service: true, Workloads: []string{"Deployment/web"}, Pods: 2, Meshed: 2},
			{ID: "workload/jobs/Job/load", Namespace: "jobs", Name: "Job/load"},
		},
		Edges: []Edge{
			{From: "service/shop/cart", To: "service/data/db", Open: 2, Bytes: 99},
			{From: "service/shop/cart", To: "service/shop/cart", Requests: 1, PerSecond: 0.1, MTLS: "some"},
			{From: "service/shop/web", To: "service/shop/cart", Requests: 50, Failed: 3, PerSecond: 5, P99: new(7.0), MTLS: "some"},
			{From: "workload/jobs/Job/load", To: "service/shop/web", Requests: 10, Failed: 1, PerSecond: 1, P99: new(5.0), MTLS: "all"},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("graph (-want +got):\n%s", diff)
	}
}

// An edge has its last points, also those without calls; what is gone and was quiet all the time is forgotten.
func TestHistory(t *testing.T) {
	h := history{}
	read := func(perSecond ...float64) Graph {
		var g Graph
		for i, n := range perSecond {
			if n >= 0 {
				g.Edges = append(g.Edges, Edge{From: "a", To: string(rune('a' + i)), Requests: 10, Failed: 5, PerSecond: n})
			}
		}
		h.add(g)
		h.fill(&g)
		return g
	}
	rates := func(e Edge) (out []float64) {
		for _, p := range e.History {
			out = append(out, p.PerSecond)
			if p.Failed != p.PerSecond/2 {
				t.Errorf("%g of %g have failed, want half", p.Failed, p.PerSecond)
			}
		}
		return out
	}
	read(1, 2)
	read(3, -1)
	g := read(4, 5)
	if got := rates(g.Edges[0]); !slices.Equal(got, []float64{1, 3, 4}) {
		t.Errorf("history %v", got)
	}
	if got := rates(g.Edges[1]); !slices.Equal(got, []float64{2, 0, 5}) {
		t.Errorf("history of one that was away %v", got)
	}
	for range points {
		g = read(7, -1)
	}
	if got := rates(g.Edges[0]); len(got) != points || slices.Max(got) != 7 || slices.Min(got) != 7 {
		t.Errorf("%d points from %g to %g", len(got), slices.Min(got), slices.Max(got))
	}
	if len(h) != 1 {
		t.Errorf("%d edges are remembered, want 1", len(h))
	}
	many := Graph{Edges: make([]Edge, maxEdges+10)}
	for i := range many.Edges {
		many.Edges[i].From = string(rune(0x10000 + i))
	}
	h.add(many)
	if len(h) > maxEdges {
		t.Errorf("%d edges are remembered, want at most %d", len(h), maxEdges)
	}
}
