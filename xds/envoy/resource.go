// Package envoy translates the mesh model into Envoy protos. Its functions are pure: the same input
// gives the same bytes. It knows no Kubernetes clients.
//
// The outbound layout routes by destination address and is scoped, so that it can be sent on demand:
// see listener_outbound.go and
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/http/http_routing#route-scope
package envoy

import (
	"cmp"
	"fmt"
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
)

// Resource is one named xDS resource.
type Resource struct {
	// Type is the type URL.
	Type string
	Name string
	// Variant is empty for a resource that is the same for every proxy. Otherwise only proxies that have it among their
	// Variants get it, before one without a variant.
	Variant string
	// Class is empty for a resource that all proxies share. Of those that have one a proxy gets that of its own class
	// (InboundListener), under a name that all of them have.
	Class string
	// Namespace of the Service that the resource belongs to; empty for what every proxy needs.
	Namespace string
	// Lazy is set for what a proxy gets only if it asks for it by name, and keeps if it has it.
	Lazy    bool
	Message proto.Message
}

// ID names a resource for all proxies: its type and name.
type ID struct{ Type, Name string }

// Compare orders by type, then name.
func (i ID) Compare(other ID) int {
	return cmp.Or(cmp.Compare(i.Type, other.Type), cmp.Compare(i.Name, other.Name))
}

// ID is what the resource is known by.
func (r Resource) ID() ID { return ID{r.Type, r.Name}.Of(r.Class) }

// Of names the resource of that name for proxies of a class; the resource itself for none.
func (i ID) Of(class string) ID {
	if class != "" {
		i.Name += "/" + class
	}
	return i
}

// InboundListener is the one name of which proxies have a resource each of their own class: mesh.Inbound's.
var InboundListener = ID{ListenerType, "inbound"}

// Ahead is the variant of a scope that has its routes fetched at once, not at the first request.
const Ahead = "ahead"

// Variants say which variant of a resource a proxy gets, the first that there is: of a listener the one for its IP
// families and, of the inbound one, for what else it can do, of others for its namespace where that has routes of connections; of
// endpoints the one for its Kubernetes node. Scopes come on demand or Ahead, which is not a matter of the node alone.
func Variants(id ID, n node.Node) []string {
	switch {
	case id == ID{ListenerType, tlsRoutesName}:
		return []string{n.Namespace}
	case id.Type == ListenerType && (id == InboundListener || strings.HasPrefix(id.Name, InboundListener.Name+"/")):
		return []string{string(familiesOf(n).with(n.CallerAddresses))}
	case id.Type == ListenerType:
		return []string{familiesOf(n).of(n.Namespace), familiesOf(n).of("")}
	case id.Type == EndpointType:
		return []string{n.NodeName}
	case id.Type == RouteType:
		return []string{n.Namespace}
	default:
		return nil
	}
}

// OutboundName names the cluster, endpoints, scope and route configuration of one Service port in
// one IP family: "outbound/<namespace>/<service>/<port>", with "/ipv6" behind it for that family.
func OutboundName(k mesh.EndpointsKey) string {
	name := fmt.Sprintf("outbound/%s/%s/%d", k.Service.Namespace, k.Service.Name, k.Port)
	if k.Family == mesh.IPv6 {
		name += "/ipv6"
	}
	return name
}

// toAny packs a message with deterministic bytes. It panics on a message that cannot be marshalled,
// which is a bug: every message here is made by this package from validated text.
func toAny(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic(fmt.Sprintf("envoy: marshal %T: %v", m, err))
	}
	return a
}
