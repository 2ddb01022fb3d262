package dashboard

import (
	"cmp"
	"slices"
)

// Traffic is what was counted over a time.
type Traffic struct {
	// Seconds is the time; 0 if there is nothing to compare with yet.
	Seconds  float64
	Calls    []Call
	Services []Service
	// Missing are texts about what could not be read.
	Missing []string
}

// Workload is a caller.
type Workload struct {
	Namespace string `json:"namespace"`
	// Name has the kind: "Deployment/web".
	Name string `json:"name"`
}

// Call has the calls of a workload to a port of a Service.
type Call struct {
	From      Workload `json:"from"`
	Namespace string   `json:"namespace"`
	Service   string   `json:"service"`
	Port      uint16   `json:"port"`
	Requests  int64    `json:"requests"`
	Failed    int64    `json:"failed"`
	PerSecond float64  `json:"perSecond"`
	// Latencies in milliseconds, if they are known.
	P50 *float64 `json:"p50,omitempty"`
	P99 *float64 `json:"p99,omitempty"`
	// Why says in words what was not answered as wanted.
	Why     string `json:"why,omitempty"`
	Retries int64  `json:"retries,omitempty"`
	// Connections that are open and that could not be made, and bytes over them both ways.
	Open            int64 `json:"open"`
	FailedToConnect int64 `json:"failedToConnect,omitempty"`
	Bytes           int64 `json:"bytes"`
	// Plain is that the caller has no identity of the mesh.
	Plain bool `json:"plain,omitempty"`
	// FromNode and ToNode are filled in by the graph.
	FromNode string `json:"fromNode"`
	ToNode   string `json:"toNode"`
}

// Service is a Service with the workloads that it selects.
type Service struct {
	Namespace, Name string
	Workloads       []Workload
	// Pods that it selects, and those of them with an identity of the mesh.
	Pods, Meshed int
}

// Graph is who calls whom.
type Graph struct {
	Nodes []Node `json:"nodes"`
	Edges []Edge `json:"edges"`
}

// Node is a Service with the workloads behind it, or a workload that no Service selects.
type Node struct {
	ID        string   `json:"id"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Service   bool     `json:"service"`
	Workloads []string `json:"workloads,omitempty"`
	Pods      int      `json:"pods"`
	Meshed    int      `json:"meshed"`
}

// Edge has all calls between two nodes.
type Edge struct {
	From      string  `json:"from"`
	To        string  `json:"to"`
	Requests  int64   `json:"requests"`
	Failed    int64   `json:"failed"`
	PerSecond float64 `json:"perSecond"`
	// P99 is the longest of its calls', in milliseconds.
	P99             *float64 `json:"p99,omitempty"`
	Open            int64    `json:"open"`
	FailedToConnect int64    `json:"failedToConnect,omitempty"`
	Bytes           int64    `json:"bytes"`
	// MTLS is for how many of the called pods calls are mTLS, ports that are excluded from capture aside: "all", "some" or "none".
	MTLS string `json:"mtls,omitempty"`
	// plain is that some of its callers have no identity.
	plain bool
}

// Point is one of a history: a time in seconds, with requests and failed ones a second.
type Point struct {
	Seconds   float64 `json:"seconds"`
	PerSecond float64 `json:"perSecond"`
	Failed    float64 `json:"failed"`
}

func serviceID(namespace, name string) string { return "service/" + namespace + "/" + name }

// build joins calls into a graph, in which the calls of a workload begin at the first Service that selects it. It returns the calls with
// their nodes.
func build(t Traffic) (Graph, []Call) {
	nodes := map[string]*Node{}
	services := map[string]Service{}
	of := map[Workload]string{}
	sorted := slices.SortedFunc(slices.Values(t.Services), func(a, b Service) int {
		return cmp.Or(cmp.Compare(a.Namespace, b.Namespace), cmp.Compare(a.Name, b.Name))
	})
	for _, s := range sorted {
		id := serviceID(s.Namespace, s.Name)
		services[id] = s
		for _, w := range s.Workloads {
			if of[w] == "" {
				of[w] = id
			}
		}
	}
	serviceNode := func(namespace, name string) string {
		id := serviceID(namespace, name)
		if nodes[id] == nil {
			s := services[id]
			n := &Node{ID: id, Namespace: namespace, Name: name, Service: true, Pods: s.Pods, Meshed: s.Meshed}
			for _, w := range s.Workloads {
				n.Workloads = append(n.Workloads, w.Name)
			}
			nodes[id] = n
		}
		return id
	}
	workloadNode := func(w Workload) string {
		if id := of[w]; id != "" {
			return serviceNode(services[id].Namespace, services[id].Name)
		}
		id := "workload/" + w.Namespace + "/" + w.Name
		if nodes[id] == nil {
			nodes[id] = &Node{ID: id, Namespace: w.Namespace, Name: w.Name}
		}
		return id
	}
	edges := map[[2]string]*Edge{}
	calls := []Call{}
	for _, c := range t.Calls {
		c.FromNode, c.ToNode = workloadNode(c.From), serviceNode(c.Namespace, c.Service)
		calls = append(calls, c)
		at := [2]string{c.FromNode, c.ToNode}
		e := edges[at]
		if e == nil {
			e = &Edge{From: at[0], To: at[1]}
			edges[at] = e
		}
		e.plain = e.plain || c.Plain
		e.MTLS = mtls(services[at[1]], e.plain)
		e.Requests, e.Failed, e.PerSecond = e.Requests+c.Requests, e.Failed+c.Failed, e.PerSecond+c.PerSecond
		e.Open, e.FailedToConnect, e.Bytes = e.Open+c.Open, e.FailedToConnect+c.FailedToConnect, e.Bytes+c.Bytes
		if c.P99 != nil && (e.P99 == nil || *c.P99 > *e.P99) {
			e.P99 = c.P99
		}
	}
	g := Graph{Nodes: []Node{}, Edges: []Edge{}}
	for _, n := range nodes {
		g.Nodes = append(g.Nodes, *n)
	}
	for _, e := range edges {
		g.Edges = append(g.Edges, *e)
	}
	sortGraph(&g)
	return g, calls
}

// mtls says for how many of a Service's pods calls are mTLS. It is empty where no pods are known.
func mtls(s Service, plain bool) string {
	switch {
	case s.Pods == 0:
		return ""
	case plain:
		return "none"
	case s.Meshed == s.Pods:
		return "all"
	case s.Meshed > 0:
		return "some"
	}
	return "none"
}
