package transparency

import (
	"fmt"
	"net/netip"
	"slices"
)

// protocol is what a Service port says of itself.
type protocol string

const (
	declaredHTTP protocol = "http"
	declaredGRPC protocol = "grpc"
	declaredTCP  protocol = "tcp"
	undeclared   protocol = "undeclared"
)

var protocols = []protocol{declaredHTTP, declaredGRPC, declaredTCP, undeclared}

// firstPort is where the port numbers of a protocol begin. Detection goes by the number for the whole mesh, so each
// number has one protocol.
var firstPort = map[protocol]int32{declaredHTTP: 21000, declaredGRPC: 22000, declaredTCP: 23000, undeclared: 24000}

// slots is how many exchanges a layout has at a time for each protocol, each at a port of its own.
const slots = 6

// Pods by name; those with a sidecar say so.
var podAddresses = map[string]netip.Addr{
	"client":     netip.MustParseAddr("10.88.0.1"),
	"outsider":   netip.MustParseAddr("10.88.0.2"),
	"permissive": netip.MustParseAddr("10.88.0.11"),
	"strict":     netip.MustParseAddr("10.88.0.12"),
	"judged":     netip.MustParseAddr("10.88.0.13"),
	"plain":      netip.MustParseAddr("10.88.0.14"),
	"vanishing":  netip.MustParseAddr("10.88.0.15"),
	"lost":       netip.MustParseAddr("10.88.0.16"),
}

var meshed = []string{"client", "permissive", "strict", "judged", "vanishing"}

// vanishingPods leave the network without a word, one with a sidecar and one without.
var vanishingPods = []string{"vanishing", "lost"}

// layout is a way from a client to a server.
type layout struct {
	name     string
	from, to string
	// byAddress calls the pod itself instead of its Service.
	byAddress bool
	// routed has a route for each port.
	routed bool
	// lost has a server that vanishes.
	lost bool
	// protocols that are tried.
	protocols []protocol
}

// direct is what the others are compared with.
var direct = layout{name: "direct", from: "outsider", to: "plain", byAddress: true, protocols: protocols}

// directLost is direct to a server that vanishes.
var directLost = layout{name: "direct to a pod that vanishes", from: "outsider", to: "lost", byAddress: true, lost: true, protocols: protocols}

var layouts = []layout{
	{name: "mesh to mesh", from: "client", to: "permissive", protocols: protocols},
	{name: "mesh to strict", from: "client", to: "strict", protocols: protocols},
	{name: "mesh to mesh, routed", from: "client", to: "permissive", routed: true, protocols: []protocol{declaredHTTP, declaredGRPC}},
	{name: "mesh to judged", from: "client", to: "judged", protocols: []protocol{declaredHTTP, declaredGRPC}},
	{name: "mesh to mesh, by address", from: "client", to: "permissive", byAddress: true, protocols: []protocol{declaredTCP, undeclared}},
	{name: "mesh to plain", from: "client", to: "plain", protocols: protocols},
	{name: "mesh to plain, by address", from: "client", to: "plain", byAddress: true, protocols: []protocol{declaredTCP, undeclared}},
	{name: "plain to mesh", from: "outsider", to: "permissive", protocols: []protocol{declaredTCP, undeclared}},
	{name: "plain to mesh, by address", from: "outsider", to: "permissive", byAddress: true, protocols: []protocol{undeclared}},
	{name: "mesh to a mesh pod that vanishes", from: "client", to: "vanishing", lost: true, protocols: protocols},
	{name: "mesh to a plain pod that vanishes", from: "client", to: "lost", lost: true, protocols: protocols},
	{name: "mesh to a mesh pod that vanishes, by address", from: "client", to: "vanishing", byAddress: true, lost: true, protocols: []protocol{declaredTCP, undeclared}},
	{name: "plain to judged", from: "outsider", to: "judged", protocols: []protocol{declaredHTTP, declaredGRPC}},
}

// all are the layouts with those that they are compared with.
func all() []layout { return append(slices.Clone(layouts), direct, directLost) }

func layoutNamed(name string) layout {
	return layouts[slices.IndexFunc(layouts, func(l layout) bool { return l.name == name })]
}

func (l layout) index() int {
	return slices.IndexFunc(all(), func(o layout) bool { return o.name == l.name })
}

// port is that of a slot, the same of the Service and of the pod.
func (l layout) port(p protocol, slot int) int32 {
	return firstPort[p] + int32(l.index()*slots+slot)
}

// serviceIP is that of the layout's Service; each has one.
func (l layout) serviceIP() netip.Addr {
	return netip.AddrFrom4([4]byte{10, 96, 0, byte(10 + l.index())})
}

func (l layout) serviceName() string { return fmt.Sprintf("layout-%d", l.index()) }

// target is what the client calls.
func (l layout) target(p protocol, slot int) string {
	ip := l.serviceIP()
	if l.byAddress {
		ip = podAddresses[l.to]
	}
	return netip.AddrPortFrom(ip, uint16(l.port(p, slot))).String()
}

// listens is where the server listens.
func (l layout) listens(p protocol, slot int) string {
	return netip.AddrPortFrom(podAddresses[l.to], uint16(l.port(p, slot))).String()
}
