package ctl

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/sidecar"
	"github.com/mizzen-mesh/mizzen/webhook"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// callerKind says what kind of place a caller is.
type callerKind string

const (
	callerPod     callerKind = "pod"
	callerNode    callerKind = "node"
	callerGone    callerKind = "gone" // a pod that is no more
	callerOutside callerKind = "outside"
	callerUnknown callerKind = "unknown"
)

// caller is a caller in plain text, with the reason.
type caller struct {
	kind callerKind
	// namespace, name and workload of a pod; name is also used for a node.
	namespace, name, workload string
	reason                    string
}

// clockSlack is the tolerated difference between clocks of nodes and API server.
const clockSlack = 10 * time.Second

// caller identifies a caller that an agent has seen.
func (i *inventory) caller(seen agentapi.Caller, target *podInfo) caller {
	source := seen.Source.Unmap()
	known := i.byIP[source]
	for _, p := range known {
		if !p.had(seen) {
			continue
		}
		return caller{callerPod, p.Namespace, p.Name, p.workload, i.whyPlain(p, seen, target)}
	}
	if len(known) > 0 {
		reason := "a deleted pod"
		if i := slices.IndexFunc(known, func(p *podInfo) bool { return !p.ended() }); i >= 0 {
			reason += fmt.Sprintf("; %s has the address now", known[i].Key)
		}
		return caller{kind: callerGone, name: source.String(), reason: reason}
	}
	for _, n := range i.nodes {
		if slices.ContainsFunc(n.Status.Addresses, func(a corev1.NodeAddress) bool { return isAddress(a.Address, source) }) {
			return caller{kind: callerNode, name: n.Name, reason: "the node's address: a pod with hostNetwork, a process of the node, or a call through a node port"}
		}
		for _, text := range n.Spec.PodCIDRs {
			pods, err := netip.ParsePrefix(text)
			switch {
			case err != nil || !pods.Contains(source):
			case source == pods.Masked().Addr().Next():
				return caller{kind: callerNode, name: n.Name, reason: "the node's address in its pod network: a pod with hostNetwork, a process of the node, or a call through a node port"}
			default:
				return caller{kind: callerGone, name: source.String(), reason: "a deleted pod of node " + n.Name}
			}
		}
	}
	if i.partial {
		return caller{kind: callerUnknown, name: source.String(), reason: "no pod or node that mizzenctl may read has this address"}
	}
	return caller{kind: callerOutside, name: source.String(), reason: "outside of the cluster: no pod or node has this address"}
}

func isAddress(text string, want netip.Addr) bool {
	got, err := netip.ParseAddr(text)
	return err == nil && got.Unmap() == want
}

// had reports whether a pod had its address at the time of the call.
func (p *podInfo) had(seen agentapi.Caller) bool {
	if start := p.source.Status.StartTime; start != nil && seen.Last.Add(clockSlack).Before(start.Time) {
		return false
	}
	for _, c := range p.source.Status.ContainerStatuses {
		if ended := c.State.Terminated; ended == nil || ended.FinishedAt.Add(clockSlack).After(seen.First) {
			return true
		}
	}
	return len(p.source.Status.ContainerStatuses) == 0
}

// whyPlain returns the reason why a pod's call was not mTLS.
func (i *inventory) whyPlain(p *podInfo, seen agentapi.Caller, target *podInfo) string {
	switch {
	case !p.injected:
		return i.whyNoSidecar(p)
	case !p.Meshed:
		return "its sidecar has no identity, because it was injected before the mesh had identities; recreate the pod"
	case p == target:
		return "the pod itself, bypassing its sidecar"
	}
	ports, cidrs := p.excluded()
	var leftOut []string
	for _, port := range ports {
		leftOut = append(leftOut, strconv.Itoa(int(port)))
	}
	for _, cidr := range cidrs {
		leftOut = append(leftOut, cidr.String())
	}
	switch {
	case slices.Contains(ports, seen.Port), slices.ContainsFunc(cidrs, func(c netip.Prefix) bool { return slices.ContainsFunc(target.IPs, c.Contains) }):
		return "its capture excludes this call: " + strings.Join(leftOut, ", ")
	case len(leftOut) > 0:
		return "it has a sidecar whose capture excludes " + strings.Join(leftOut, ", ") + "; or it called an address of no pod and no Service"
	}
	return "it has a sidecar, but called an address of no pod and no Service, such as a node port or a load balancer, or bypassed the sidecar"
}

func (i *inventory) whyNoSidecar(p *podInfo) string {
	var labels map[string]string
	n := i.namespaces[p.Namespace]
	if n != nil {
		labels = n.Labels
	}
	switch d := webhook.Decide(labels, p.source, i.system); {
	case d.Inject:
		return "no sidecar: the pod is older than the label of its namespace; recreate it"
	case d.Refuse != "":
		return "no sidecar: " + d.Refuse
	case d.Reason == webhook.NamespaceNotEnabled && n == nil:
		return "no sidecar"
	default:
		return "no sidecar: " + d.Reason.Explain()
	}
}

// excluded returns the outbound ports and ranges that a pod's capture excludes.
func (p *podInfo) excluded() (ports []uint16, cidrs []netip.Prefix) {
	captured, _ := sidecar.Captured(&p.source.Spec) // a container whose arguments are wrong in part does not start
	return captured.ExcludeOutboundPorts, captured.ExcludeOutboundCIDRs
}

// group is the key by which similar callers are merged.
func (c caller) group() string {
	if c.kind == callerPod {
		return c.namespace + "/" + c.workload + " " + c.reason
	}
	return string(c.kind) + " " + c.reason
}

// text returns the text for one caller.
func (c caller) text() string {
	switch c.kind {
	case callerPod:
		return mesh.Key{Namespace: c.namespace, Name: c.name}.String()
	case callerNode:
		return "node " + c.name
	}
	return c.name
}
