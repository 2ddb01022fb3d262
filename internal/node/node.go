// Package node is the identity that a sidecar, or a gateway's pod, gives itself on the ADS stream: written into Envoy's
// bootstrap by the agent, read by the control plane. It may import config/fixed and Envoy's core protos only.
package node

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Node names the pod that a proxy runs in.
type Node struct {
	Namespace      string
	Pod            string
	UID            string
	ServiceAccount string
	// NodeName is the Kubernetes node the pod runs on.
	NodeName string
	// IPs of the pod, one for each IP family it has.
	IPs []netip.Addr
	// Version of the agent.
	Version string
	// ConfigScope is one of fixed.ConfigScopes, or empty for automatic.
	ConfigScope string
	// CallerAddresses is set for a sidecar that can call the application from the address of whoever calls the pod.
	CallerAddresses bool
	// SocketLoadBalancing is set where connections to Services get a pod's address within the socket (package socketlb).
	SocketLoadBalancing bool
	// Gateway is set for a pod of a Gateway, which has no application. It is what the pod says of itself: its certificate decides
	// what it gets.
	Gateway bool
	// Workload is the "<kind>/<name>" that the pod belongs to; empty without one. It is what the pod
	// says of itself, good to group pods by, never to decide what they may do.
	Workload string
}

// Pod names one pod, and not a later one of the same name.
type Pod struct{ Namespace, Name, UID string }

// Of is the pod that the proxy runs in.
func (n Node) Of() Pod { return Pod{n.Namespace, n.Pod, n.UID} }

// Identity is who a pod is, as far as its certificate says.
type Identity struct {
	Namespace, Pod, UID, ServiceAccount string
}

// Check gives an error unless the node is the one that a certificate names. It names the field and both
// values.
func (n Node) Check(id Identity) error {
	for _, f := range []struct{ field, got, want string }{
		{"id", n.ID(), id.Namespace + "/" + id.Pod},
		{"cluster", n.Cluster(), id.Namespace + "/" + id.ServiceAccount},
		{"metadata.uid", n.UID, id.UID},
	} {
		if f.got != f.want {
			return fmt.Errorf("node.%s: %q: want %q, which the client's certificate names", f.field, f.got, f.want)
		}
	}
	return nil
}

// maxField bounds each field in bytes: two names of 253 and what stands between them.
const maxField = 512

// ID is the Envoy node id: "<namespace>/<pod>".
func (n Node) ID() string { return n.Namespace + "/" + n.Pod }

// Cluster is the Envoy node cluster: "<namespace>/<service account>".
func (n Node) Cluster() string { return n.Namespace + "/" + n.ServiceAccount }

// Metadata is the Envoy node metadata: strings.
func (n Node) Metadata() map[string]string {
	ips := make([]string, len(n.IPs))
	for i, ip := range n.IPs {
		ips[i] = ip.String()
	}
	meta := map[string]string{
		"uid":      n.UID,
		"nodeName": n.NodeName,
		"ips":      strings.Join(ips, ","),
		"version":  n.Version,
	}
	if n.ConfigScope != "" {
		meta["configScope"] = n.ConfigScope
	}
	if n.Workload != "" {
		meta["workload"] = n.Workload
	}
	if n.CallerAddresses {
		meta["callerAddresses"] = "true"
	}
	if n.SocketLoadBalancing {
		meta["socketLoadBalancing"] = "true"
	}
	if n.Gateway {
		meta["gateway"] = "true"
	}
	return meta
}

// Proto gives the node as Envoy sends it: id, cluster and metadata.
// See https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/core/v3/base.proto#config-core-v3-node
func (n Node) Proto() *corev3.Node {
	meta := map[string]*structpb.Value{}
	for field, value := range n.Metadata() {
		meta[field] = structpb.NewStringValue(value)
	}
	return &corev3.Node{Id: n.ID(), Cluster: n.Cluster(), Metadata: &structpb.Struct{Fields: meta}}
}

// FromProto reads what Proto wrote. The error names the field and the value that it cannot read.
func FromProto(p *corev3.Node) (Node, error) {
	meta := p.GetMetadata().GetFields()
	if err := short(p, meta); err != nil {
		return Node{}, err
	}
	ns, pod, ok := strings.Cut(p.GetId(), "/")
	if !ok || ns == "" || pod == "" || strings.Contains(pod, "/") {
		return Node{}, fmt.Errorf(`node.id: %q: want "<namespace>/<pod>"`, p.GetId())
	}
	clusterNS, sa, ok := strings.Cut(p.GetCluster(), "/")
	if !ok || clusterNS != ns {
		return Node{}, fmt.Errorf(`node.cluster: %q: want "%s/<service account>"`, p.GetCluster(), ns)
	}
	n := Node{
		Namespace:      ns,
		Pod:            pod,
		ServiceAccount: sa,
		UID:            meta["uid"].GetStringValue(),
		NodeName:       meta["nodeName"].GetStringValue(),
		Version:        meta["version"].GetStringValue(),
		ConfigScope:    meta["configScope"].GetStringValue(),
		Workload:       meta["workload"].GetStringValue(),

		CallerAddresses:     meta["callerAddresses"].GetStringValue() == "true",
		SocketLoadBalancing: meta["socketLoadBalancing"].GetStringValue() == "true",
		Gateway:             meta["gateway"].GetStringValue() == "true",
	}
	if !fixed.ValidConfigScope(n.ConfigScope) {
		return Node{}, fmt.Errorf("node.metadata.configScope: %q: want one of %s", n.ConfigScope, strings.Join(fixed.ConfigScopes, ", "))
	}
	ips := meta["ips"].GetStringValue()
	if ips == "" {
		return n, nil
	}
	for _, s := range strings.Split(ips, ",") {
		ip, err := netip.ParseAddr(s)
		if err != nil {
			return Node{}, fmt.Errorf("node.metadata.ips: %q: %w", ips, err)
		}
		n.IPs = append(n.IPs, ip)
	}
	return n, nil
}

// short reports a field that is too long, without repeating it.
func short(p *corev3.Node, meta map[string]*structpb.Value) error {
	long := func(field, value string) error {
		if len(value) > maxField {
			return fmt.Errorf("node.%s: %d bytes, want at most %d", field, len(value), maxField)
		}
		return nil
	}
	errs := []error{long("id", p.GetId()), long("cluster", p.GetCluster())}
	for _, field := range []string{"uid", "nodeName", "version", "configScope", "workload", "ips"} {
		errs = append(errs, long("metadata."+field, meta[field].GetStringValue()))
	}
	return errors.Join(errs...)
}
