package chaos

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"
)

// fault is something that is done to the mesh. do returns as soon as it has been done, or, if it goes on for a while, when that is over.
type fault struct {
	name, about string
	// quick says that it is over within seconds.
	quick bool
	needs []need
	do    func(ctx context.Context, s *suite, draw *rand.Rand) (*harm, error)
}

// harm is a fault that was done.
type harm struct {
	target string
	// undo takes it back, and settle waits until the cluster has recovered. Either may be nil.
	undo, settle func(context.Context) error
	excuses      []excuse
}

// need is what a fault needs of the machine or the cluster.
type need string

const (
	// thisMachine has the cluster's processes.
	thisMachine need = "processes"
	// ownAPIServer is a process of the embedded cluster.
	ownAPIServer need = "API server"
	// dropping packets needs nftables in a pod's network namespace.
	dropping need = "nft"
	// delaying packets needs the kernel's network emulator.
	delaying need = "netem"
	// ownCRDs are the Gateway API's that this run may remove.
	ownCRDs need = "CRDs"
)

// faults are all, in the order in which they are listed.
var faults = []fault{
	{"pod-deleted", "a pod is deleted", true, nil, podDeleted},
	{"pod-evicted", "a pod is evicted, as by kubectl drain", true, nil, podEvicted},
	{"application-killed", "an application ends as by SIGKILL", true, nil, applicationKilled},
	{"rollout", "a Deployment is rolled out anew", false, nil, rolledOut},
	{"scaled", "a Deployment gets two pods more, and then as many as before", false, nil, scaled},
	{"gateway-rollout", "the Gateway's pods are rolled out anew", false, nil, gatewayRolledOut},
	{"envoy-killed", "the Envoy of a server's sidecar is killed", true, []need{thisMachine}, envoyKilled},
	{"agent-killed", "the agent of a server's sidecar is killed", false, []need{thisMachine}, agentKilled},
	{"caller-envoy-killed", "the Envoy of the caller's sidecar is killed", false, []need{thisMachine}, callerEnvoyKilled},
	{"replica-deleted", "a replica of the control plane is deleted", true, nil, replicaDeleted},
	{"replica-killed", "a replica of the control plane is killed", false, []need{thisMachine}, replicaKilled},
	{"replica-paused", "a replica of the control plane stands still for some seconds", true, []need{thisMachine}, replicaPaused},
	{"leader-deleted", "the replica that leads is deleted", false, nil, leaderDeleted},
	{"control-plane-away", "all replicas are taken away for some seconds", false, nil, controlPlaneAway},
	{"api-server-paused", "the API server stands still for some seconds", false, []need{ownAPIServer}, apiServerPaused},
	{"etcd-paused", "etcd stands still for some seconds", false, []need{ownAPIServer}, etcdPaused},
	{"pod-cut", "all packets of a server's pod are lost for some seconds", true, []need{thisMachine, dropping}, podCut},
	{"packets-lost", "some of the packets of a server's pod are lost for some seconds", false, []need{thisMachine, dropping}, packetsLost},
	{"packets-delayed", "the packets of a server's pod are late for some seconds", false, []need{thisMachine, delaying}, packetsDelayed},
	{"packets-reordered", "the packets of a server's pod overtake each other for some seconds", false, []need{thisMachine, delaying}, packetsReordered},
	{"weights-changed", "the weights of an HTTPRoute and a GRPCRoute change", true, nil, weightsChanged},
	{"routes-deleted", "the routes of a Service go and come again", true, nil, routesDeleted},
	{"policy-changed", "a policy that concerns nobody comes and goes", true, nil, policyChanged},
	{"mode-changed", "the namespace becomes strict and permissive again", true, nil, modeChanged},
	{"ports-renamed", "the ports of a Service get other names, and their old ones again", true, nil, portsRenamed},
	{"selector-changed", "a Service selects the same pods by other labels, and then by the old ones", true, nil, selectorChanged},
	{"crds-removed", "the Gateway API's CRDs are removed with all Gateways and routes, and put back", false, []need{ownCRDs}, crdsRemoved},
}

// List describes all faults, one a line.
func List() string {
	s := ""
	for _, f := range faults {
		form := ""
		if f.quick {
			form = " (also in the short form)"
		}
		s += fmt.Sprintf("%-20s %s%s\n", f.name, f.about, form)
	}
	return s
}

// hold keeps a fault up for a while.
func hold(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// seconds draws a length.
func seconds(draw *rand.Rand, least, most int) time.Duration {
	return time.Duration(least+draw.IntN(most-least+1)) * time.Second
}

// pick draws one.
func pick[T any](draw *rand.Rand, list []T) T { return list[draw.IntN(len(list))] }
