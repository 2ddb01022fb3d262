package kube

import (
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// kindSidecar keeps what a sidecar reports of its node apart from the problems of its pod. No other replica has this
// report, so this one writes the event even if it is not the leader.
const kindSidecar mesh.Kind = "Sidecar"

// Sidecar is what a sidecar reports of its pod's node.
type Sidecar struct {
	Pod           mesh.Key
	UID, NodeName string
	// SocketLoadBalancing is true if the node replaces a Service's address with a pod's address in the socket.
	SocketLoadBalancing bool
}

// Sidecar takes a sidecar's report when one of its streams begins, and forgets it when the last one ends.
func (r *Reporter) Sidecar(s Sidecar, connected bool) {
	if !s.SocketLoadBalancing {
		return
	}
	about := mesh.ID{Kind: kindSidecar, Key: s.Pod}
	r.mu.Lock()
	defer r.mu.Unlock()
	if connected {
		r.sidecars[about]++
		r.report(about, []mesh.Problem{socketLoadBalancing(s)})
		return
	}
	if r.sidecars[about]--; r.sidecars[about] == 0 {
		delete(r.sidecars, about)
		r.report(about, nil)
	}
}

func socketLoadBalancing(s Sidecar) mesh.Problem {
	return mesh.Problem{
		Object: mesh.ID{Kind: mesh.KindPod, Key: s.Pod}, UID: s.UID, Reason: "SocketLoadBalancing",
		Field: "socket load balancing on node " + s.NodeName, Value: "on", Allowed: "off for pods (" + config.SocketLoadBalancingRemedy + ")",
		Effect: "calls to Services are not balanced, because the sidecar sees a pod's address in place of the Service's",
	}
}
