package dashboard

import (
	"cmp"
	"slices"
)

const (
	// points is how many reads are remembered, and maxEdges of how many edges.
	points   = 120
	maxEdges = 5000
)

// history has the last reads of each edge, and the nodes at its ends.
type history struct {
	edges map[[2]string]*past
	nodes map[string]Node
}

// past has as many points as there were reads since the edge was first seen, at most so many.
type past struct {
	mtls   string
	points []Point
}

func newHistory() *history { return &history{edges: map[[2]string]*past{}, nodes: map[string]Node{}} }

// add takes a read. An edge without calls has a point, too; it is forgotten when none of its points has any.
func (h *history) add(g Graph, seconds float64) {
	for _, n := range g.Nodes {
		h.nodes[n.ID] = n
	}
	now := map[[2]string]Point{}
	for _, e := range g.Edges {
		at := [2]string{e.From, e.To}
		p := Point{PerSecond: e.PerSecond}
		if e.Requests > 0 {
			p.Failed = e.PerSecond * float64(e.Failed) / float64(e.Requests)
		}
		now[at] = p
		switch of := h.edges[at]; {
		case of != nil:
			of.mtls = e.MTLS
		case len(h.edges) < maxEdges:
			h.edges[at] = &past{mtls: e.MTLS}
		}
	}
	used := map[string]bool{}
	for at, of := range h.edges {
		p, there := now[at]
		p.Seconds = seconds
		of.points = append(of.points, p)
		if len(of.points) > points {
			of.points = slices.Clone(of.points[len(of.points)-points:])
		}
		if !there && !slices.ContainsFunc(of.points, func(p Point) bool { return p.PerSecond > 0 }) {
			delete(h.edges, at)
			continue
		}
		used[at[0]], used[at[1]] = true, true
	}
	for id := range h.nodes {
		if !used[id] {
			delete(h.nodes, id)
		}
	}
}

// quiet adds the edges to a graph on which there is nothing now, so that they do not come and go.
func (h *history) quiet(g *Graph) {
	edges, nodes := map[[2]string]bool{}, map[string]bool{}
	for _, e := range g.Edges {
		edges[[2]string{e.From, e.To}] = true
	}
	for _, n := range g.Nodes {
		nodes[n.ID] = true
	}
	for at, of := range h.edges {
		if edges[at] {
			continue
		}
		g.Edges = append(g.Edges, Edge{From: at[0], To: at[1], MTLS: of.mtls})
		for _, id := range at {
			if n, known := h.nodes[id]; known && !nodes[id] {
				nodes[id] = true
				g.Nodes = append(g.Nodes, n)
			}
		}
	}
	sortGraph(g)
}

// of returns the sum of the calls to a node, or of those that it makes if nobody calls it.
func (h *history) of(node string) []Point {
	for end := 1; end >= 0; end-- {
		var out []Point
		for at, of := range h.edges {
			if at[end] != node {
				continue
			}
			for len(out) < len(of.points) { // the last reads are the same for all
				out = append([]Point{{}}, out...)
			}
			for i, p := range of.points {
				sum := &out[len(out)-len(of.points)+i]
				sum.Seconds, sum.PerSecond, sum.Failed = p.Seconds, sum.PerSecond+p.PerSecond, sum.Failed+p.Failed
			}
		}
		if out != nil {
			return out
		}
	}
	return nil
}

func sortGraph(g *Graph) {
	slices.SortFunc(g.Nodes, func(a, b Node) int { return cmp.Compare(a.ID, b.ID) })
	slices.SortFunc(g.Edges, func(a, b Edge) int { return cmp.Or(cmp.Compare(a.From, b.From), cmp.Compare(a.To, b.To)) })
}
