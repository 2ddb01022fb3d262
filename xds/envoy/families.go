package envoy

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// families says which IP families a proxy's pod has; a listener may bind only those.
type families string

const (
	onlyIPv4 families = "ipv4"
	onlyIPv6 families = "ipv6"
	dual     families = "dual"
)

var allFamilies = []families{onlyIPv4, onlyIPv6, dual}

// familiesOf returns the families of the pod's addresses, and IPv4 for a proxy that reports no address.
func familiesOf(n node.Node) families {
	var v4, v6 bool
	for _, ip := range n.IPs {
		if mesh.FamilyOf(ip) == mesh.IPv4 {
			v4 = true
		} else {
			v6 = true
		}
	}
	switch {
	case v4 && v6:
		return dual
	case v6:
		return onlyIPv6
	default:
		return onlyIPv4
	}
}

// callersSuffix is the end of the variants for proxies that can call the application from its callers' addresses.
const callersSuffix = "+callers"

func (f families) with(callers bool) families {
	if callers {
		f += callersSuffix
	}
	return f
}

// bind sets the listener's addresses: v4, v6, or v4 with v6 as an additional one.
func (f families) bind(l *listenerv3.Listener, v4, v6 netip.Addr, port uint32) {
	switch f {
	case onlyIPv6:
		l.Address = socketAddress(v6, port)
	case dual:
		l.AdditionalAddresses = []*listenerv3.AdditionalAddress{{Address: socketAddress(v6, port)}}
		fallthrough
	default:
		l.Address = socketAddress(v4, port)
	}
}

func socketAddress(ip netip.Addr, port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address:       ip.String(),
		PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}
