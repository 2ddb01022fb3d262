// Package envoy translates the mesh model into Envoy protos. Its functions are pure: the same input results in the same
// bytes. It knows no Kubernetes clients.
//
// The outbound side routes by destination address with scoped routes, so that routes can be sent on demand: see
// listener_outbound.go, demand.go and
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/http/http_routing#route-scope
package envoy

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/envoyproxy/go-control-plane/pkg/resource/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// The xDS types that Mizzen serves.
const (
	ClusterType     = resource.ClusterType
	EndpointType    = resource.EndpointType
	ListenerType    = resource.ListenerType
	ScopedRouteType = resource.ScopedRouteType
	RouteType       = resource.RouteType
	VirtualHostType = resource.VirtualHostType
	SecretType      = resource.SecretType
)

// Resource is one named xDS resource.
type Resource struct {
	// Type is the type URL.
	Type string
	Name string
	// Variant is empty for the form of a resource for all proxies. A proxy gets the first of its Variants that exists, or
	// else the form without a variant.
	Variant string
	// Class is empty for a resource that all proxies share. Resources with a class have one name (InboundListener), under
	// which each proxy gets the one of its own class.
	Class string
	// Namespace of the Service that the resource belongs to; empty for a resource that every proxy needs.
	Namespace string
	// Owner is the gateway that alone may have the resource (mesh.Gateway.Owner); empty for a resource of sidecars.
	Owner string
	// Lazy is true if a proxy gets the resource only when it asks for it by name. A proxy that has the resource keeps it.
	Lazy    bool
	Message proto.Message
	// Clusters that the message names besides those that References finds: those of a gateway's listeners and filters.
	Clusters []string
}

// OwnerOf returns the owner of the resources that a proxy alone may have: that of its Gateway, or "" for a sidecar. The server
// has checked both names against the proxy's certificate (node.Check).
func OwnerOf(n node.Node) string {
	if !n.Gateway {
		return ""
	}
	return n.Cluster()
}

// Needs returns the resources that the proxy needs before this one.
func (r Resource) Needs() []ID {
	out := References(r.Message)
	for _, name := range r.Clusters {
		if id := (ID{ClusterType, name}); !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

// ID names a resource for all proxies: its type and name.
type ID struct{ Type, Name string }

// Compare orders by type, then name.
func (i ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(i.Type, other.Type), cmp.Compare(i.Name, other.Name))
}

// ID returns the resource's ID, which includes its class.
func (r Resource) ID() ID { return ID{r.Type, r.Name}.Of(r.Class) }

// Of returns the ID of the resource of this name for a class, or the ID itself without a class.
func (i ID) Of(class string) ID {
	if class != "" {
		i.Name += "/" + class
	}
	return i
}

// InboundListener is the only name under which each proxy gets the resource of its class, that of mesh.Inbound.
var InboundListener = ID{ListenerType, "inbound"}

// CollectionOf returns the name by which proxies subscribe to a resource and to all others of its collection: for a virtual host that of
// its route configuration. Other resources are in no collection and have the name "".
// https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/http/http_conn_man/vhds
func CollectionOf(id ID) string {
	if id.Type != VirtualHostType {
		return ""
	}
	return id.Name[:max(strings.LastIndexByte(id.Name, '/'), 0)]
}

// Variants returns the variants that fit a proxy, the best first:
//
//   - of the inbound listener, by its IP families and by whether it can call from callers' addresses
//   - of other listeners, by its IP families and by its namespace, which may have routes of connections
//   - of endpoints, by its Kubernetes node and by the zone of that
//   - of route configurations, by its namespace
//   - of clusters, by the gateway that the proxy belongs to, which may have a client certificate
func Variants(id ID, n node.Node, zone string) []string {
	switch {
	case id == ID{ListenerType, tlsRoutesName}:
		return []string{n.Namespace}
	case id.Type == ListenerType && (id == InboundListener || strings.HasPrefix(id.Name, InboundListener.Name+"/")):
		return []string{string(familiesOf(n).with(n.CallerAddresses))}
	case id.Type == ListenerType:
		return []string{familiesOf(n).of(n.Namespace), familiesOf(n).of("")}
	case id.Type == EndpointType:
		return []string{n.NodeName, zoneVariant(zone)}
	case id.Type == RouteType:
		return []string{n.Namespace}
	case id.Type == ClusterType && n.Gateway:
		return []string{OwnerOf(n)}
	default:
		return nil
	}
}

// OutboundName returns the name of the HTTP cluster and of the endpoints of one Service port in one IP family:
// "outbound/<namespace>/<service>/<port>", followed by "/ipv6" for IPv6, and by "/udp" for UDP.
func OutboundName(k mesh.EndpointsKey) string {
	name := fmt.Sprintf("outbound/%s/%s/%d", k.Service.Namespace, k.Service.Name, k.Port)
	if k.Family == mesh.IPv6 {
		name += "/ipv6"
	}
	if k.UDP {
		name += "/udp"
	}
	return name
}

// toAny packs a message with deterministic bytes. It panics if the message cannot be marshalled. That would be a bug,
// because this package makes every message from validated text.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("envoy: marshal %T: %v", m, err))
	}
	return a
}
