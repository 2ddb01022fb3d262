package envoy

import (
	"net/netip"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// podPrefix begins the names of clusters for single addresses of pods.
const podPrefix = "pod/"

// PodName names the cluster for connections that an application makes to a pod's own address, as to those of a
// headless Service: "pod/<ip>:<port>". A sidecar asks for it by this name at the first connection.
func PodName(addr netip.AddrPort) string { return podPrefix + addr.String() }

// PodAddress reads what PodName wrote.
func PodAddress(name string) (netip.AddrPort, bool) {
	text, ok := strings.CutPrefix(name, podPrefix)
	if !ok {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddrPort(text)
	return addr, err == nil && PodName(addr) == name
}

// PodCluster goes to an address at which this identity answers (mesh.Pods.IdentityAt), with mTLS, or with plain
// text to mesh.PlainText. Where it is not known who answers, identity is empty, and nobody can be called.
//
// It has no more than the one endpoint, which is why its name holds the port, too: at some ports of a pod
// the sidecar answers, and at others the application.
func PodCluster(addr netip.AddrPort, identity string, cfg *config.Mesh) Resource {
	name := PodName(addr)
	if identity == "" {
		return NoEndpoints(name)
	}
	c := &clusterv3.Cluster{
		Name:                 name,
		AltStatName:          "pods", // one series for all
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
		ConnectTimeout:       durationpb.New(cfg.Traffic.ConnectTimeout.Duration),
		CircuitBreakers:      unlimited(nil),
		LoadAssignment:       loadAssignment(name, []mesh.Endpoint{{Addr: addr}}),
	}
	if identity != mesh.PlainText {
		c.TransportSocket = callerTLS(identity)
	}
	return Resource{Type: ClusterType, Name: name, Lazy: true, Message: c}
}
