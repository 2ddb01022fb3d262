package mesh

import (
	"cmp"
	"slices"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
)

// privileged ports are those that a container may not bind without a capability.
const privileged = 1024

// firstShifted is where the ports for the privileged ones begin.
const firstShifted = 1<<16 - privileged

// BindPort returns the port that a Gateway's pods listen on for a listener's port: the same, or for a privileged port one behind
// 64511. It reports false for a port that a listener cannot have.
func BindPort(port uint16) (uint16, bool) {
	switch {
	case port == 0 || port >= firstShifted || port == config.AgentPort:
		return 0, false
	case port < privileged:
		return firstShifted + port, true
	}
	return port, true
}

// GatewayPort is a port of a Gateway's Service.
type GatewayPort struct {
	// Port is that of the listeners, Bind that of the pods.
	Port, Bind uint16
	UDP        bool
	// AppProtocol is an IANA service name, or empty.
	AppProtocol string
}

// appProtocolOf has the IANA names of protocols that a load balancer may want to know.
var appProtocolOf = map[gatewayv1.ProtocolType]string{gatewayv1.HTTPProtocolType: "http", gatewayv1.HTTPSProtocolType: "https"}

// GatewayPorts returns the ports for listeners, sorted by number, TCP before UDP, without those that no pod can listen on. Of several
// protocols at one port the first listener's counts.
func GatewayPorts(listeners []gatewayv1.Listener) []GatewayPort {
	out := []GatewayPort{}
	add := func(port GatewayPort) {
		if !slices.ContainsFunc(out, func(p GatewayPort) bool { return p.compare(port) == 0 }) {
			out = append(out, port)
		}
	}
	for _, l := range listeners {
		bind, ok := BindPort(uint16(l.Port)) // the schema allows 1 to 65535
		if _, known := kindsOf[l.Protocol]; !known || !ok {
			continue
		}
		add(GatewayPort{uint16(l.Port), bind, l.Protocol == gatewayv1.UDPProtocolType, appProtocolOf[l.Protocol]})
		if wantsHTTP3(l) {
			add(GatewayPort{Port: uint16(l.Port), Bind: bind, UDP: true})
		}
	}
	slices.SortFunc(out, GatewayPort.compare)
	return out
}

func (p GatewayPort) compare(other GatewayPort) int {
	return cmp.Or(cmp.Compare(p.Port, other.Port), compareBool(p.UDP, other.UDP))
}
