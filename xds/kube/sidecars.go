package kube

import (
	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// kindSidecar keeps what a sidecar says of its node apart from what is known of its pod. No other replica has heard it, so
// this one writes the event, whoever leads.
const kindSidecar mesh.Kind = "Sidecar"

// Sidecar is what a sidecar says of the node that its pod runs on.
type Sidecar struct {
	Pod           mesh.Key
	UID, NodeName string
	// SocketLoadBalancing is set where connections to Services get a pod's address within the socket.
	SocketLoadBalancing bool
}

// Sidecar takes what is said when a stream of the sidecar begins, and forgets it with the last that ends.
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
