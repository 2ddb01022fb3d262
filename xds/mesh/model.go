// Package mesh is the model of the mesh and the pure functions that build it from Kubernetes
// objects. It knows no Envoy protos and no Kubernetes clients.
package mesh

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/mizzen-mesh/mizzen/config"
)

// Protocol is how the connections to a Service port are treated.
type Protocol string

// The protocols. Everything that is not HTTP is passed on as bytes.
const (
	// HTTP is any version of HTTP in plain text, including gRPC.
	HTTP Protocol = "HTTP"
	// TCP is opaque: never inspected, so that server-first protocols work.
	TCP Protocol = "TCP"
	// Detect looks at the client's first bytes and decides between HTTP and TCP.
	Detect Protocol = "Detect"
)

// Family is an IP family.
type Family string

// The IP families.
const (
	IPv4 Family = "ipv4"
	IPv6 Family = "ipv6"
)

// FamilyOf returns the family of an address.
func FamilyOf(ip netip.Addr) Family {
	if ip.Is4() || ip.Is4In6() {
		return IPv4
	}
	return IPv6
}

// Service is a Service with at least one cluster IP and one TCP port. Headless and ExternalName Services have no cluster
// IP: their traffic passes through to the addresses from DNS. Only gateways send to Services without a cluster IP or without a TCP
// port (Gateways).
type Service struct {
	Key
	// ClusterIPs has one address for each family of the Service.
	ClusterIPs []netip.Addr
	// Headless are the IP families of a Service without a cluster IP.
	Headless []Family
	// Ports in ascending order of their number.
	Ports []Port
	// LocalOnly keeps calls on the caller's node (internalTrafficPolicy: Local).
	LocalOnly bool
	// Near is true if the Service asks for endpoints near the caller (trafficDistribution, or the annotation topology-mode). Kubernetes
	// then writes hints into its EndpointSlices.
	Near bool
	// ClientIPAffinity sends all calls of one client pod to one endpoint (sessionAffinity: ClientIP).
	ClientIPAffinity bool
	// Calls are the settings of the Service's annotations for calls to it. They apply under every rule.
	Calls config.Calls
	// Policy are the settings of the annotations for its endpoints.
	Policy config.ServicePolicy
	// Traffic are the settings of the Gateway API's policies, from BuildTrafficPolicies.
	Traffic TrafficPolicy
	// Identities are the SPIFFE IDs that its endpoints may have, sorted. An endpoint with another one cannot be called:
	// see Identities.
	Identities []string
	// Policies is a hash of the AuthorizationPolicies of its pods. When it changes, callers connect again, because
	// connections are judged when they are made.
	Policies string
	// UDP are its UDP ports, in ascending order.
	UDP []Port
	// Gateways is true if a route of a Gateway sends to it.
	Gateways bool
	// BackendTLS has the ports with a BackendTLSPolicy, by number.
	BackendTLS map[uint16]BackendTLS
	// ClientCertificates are the Secrets that gateways show to ports with a BackendTLSPolicy, by Gateway.Owner.
	ClientCertificates map[string]string
}

// HashBy returns the part of a call whose hash chooses the endpoint, or nil if calls are not hashed. The annotation wins
// over ClientIPAffinity.
func (s *Service) HashBy() *config.HashBy {
	if s.Policy.LoadBalancing == "" && s.ClientIPAffinity {
		return &config.HashBy{Source: config.BySourceIP}
	}
	return s.Policy.HashBy
}

// Captured reports whether sidecars recognize calls to the Service, by its cluster IP.
func (s *Service) Captured() bool { return len(s.ClusterIPs) > 0 && len(s.Ports) > 0 }

// Families returns the IP families of the Service.
func (s *Service) Families() []Family {
	out := slices.Clone(s.Headless)
	for _, ip := range s.ClusterIPs {
		out = append(out, FamilyOf(ip))
	}
	return out
}

// target returns one port of the Service as the target of routes.
func (s *Service) target(port Port) Target {
	return Target{
		Service: s.Key, Port: port.Number, Families: s.Families(), ClusterIPs: s.ClusterIPs, HTTP2: port.HTTP2, HashBy: s.HashBy(), Identities: s.Identities,
		Near: s.Near,
	}
}

// Port is one TCP port of a Service.
type Port struct {
	// Number is the Service's port, not the target port.
	Number uint16
	// HTTP2 is true if the port declares a protocol over HTTP/2 (h2c, grpc). Sidecars speak their client's version.
	HTTP2 bool
	// Name joins the port to the ports of EndpointSlices. It may be empty if the Service has only one port.
	Name     string
	Protocol Protocol
}

// Endpoint is an address that calls can be sent to.
type Endpoint struct {
	Addr netip.AddrPort
	// Node is its Kubernetes node, for LocalOnly Services.
	Node string
	// Identity is its SPIFFE ID, or PlainText; empty in a mesh without identities.
	Identity string
	// ForNodes and ForZones are the nodes and zones whose callers the EndpointSlice recommends it to; see Near.
	ForNodes, ForZones []string
}

// Problem is something in a user's object that Mizzen works around and reports.
type Problem struct {
	Object ID
	// UID of the object, by which kubectl finds events.
	UID string
	// Reason is a stable CamelCase word, used in events and metric labels.
	Reason string
	// Field and Value are wrong; Allowed is what would be right.
	Field, Value, Allowed string
	// Effect is what Mizzen does instead.
	Effect string
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s: %q: want %s; %s", p.Object, p.Field, p.Value, p.Allowed, p.Effect)
}

// badAnnotation returns the problem of an object with an annotation whose value is not allowed.
func badAnnotation(object ID, uid string, e config.KeyError) Problem {
	return Problem{
		Object: object, UID: uid, Reason: "BadAnnotation",
		Field: fmt.Sprintf("metadata.annotations[%s]", e.Name), Value: e.Value, Allowed: e.Want, Effect: "this annotation is ignored",
	}
}
