package dashboard

const (
	// points is how many reads of an edge are remembered, and edges of how many edges.
	points   = 120
	maxEdges = 5000
)

// history has the last reads of each edge.
type history map[[2]string][]Point

// add takes a read. An edge without calls has a point, too; one that is gone is forgotten when all its points are 0.
func (h history) add(g Graph) {
	now := map[[2]string]Point{}
	for _, e := range g.Edges {
		p := Point{PerSecond: e.PerSecond, P99: e.P99}
		if e.Requests > 0 {
			p.Failed = e.PerSecond * float64(e.Failed) / float64(e.Requests)
		}
		now[[2]string{e.From, e.To}] = p
	}
	for at := range now {
		if _, known := h[at]; !known && len(h) < maxEdges {
			h[at] = nil
		}
	}
	for at, before := range h {
		after := append(before, now[at])
		if len(after) > points {
			after = after[len(after)-points:]
		}
		h[at] = after
		if _, there := now[at]; !there && quiet(after) {
			delete(h, at)
		}
	}
}

func quiet(all []Point) bool {
	for _, p := range all {
		if p.PerSecond > 0 {
			return false
		}
	}
	return true
}

// fill gives each edge its history.
func (h history) fill(g *Graph) {
	for i := range g.Edges {
		e := &g.Edges[i]
		e.History = append([]Point{}, h[[2]string{e.From, e.To}]...)
	}
}
