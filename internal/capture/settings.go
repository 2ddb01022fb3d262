package capture

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/mizzen-mesh/mizzen/config"
)

// Settings say what is captured. Ports are TCP ports.
type Settings struct {
	// ProxyUID is the user whose own connections are never captured.
	ProxyUID uint32
	// OutboundPort and InboundPort are where captured connections enter Envoy.
	OutboundPort uint16
	InboundPort  uint16
	// AgentPort is reached from outside as it is: the kubelet's probes and Prometheus use it.
	AgentPort uint16

	// CapturesOwnCalls sends a call that the sidecar makes to its own pod to InboundPort: it may carry
	// mTLS, which the application could not end.
	CapturesOwnCalls bool

	// PodAddresses are the pod's own, one of each family. With them the sidecar can call the application in the name of
	// whoever calls the pod; without, all calls come from the pod's own address.
	PodAddresses []netip.Addr

	// NodeAddresses are those from which the kubelet may call.
	NodeAddresses []netip.Addr

	ExcludeInboundPorts  []uint16
	ExcludeOutboundPorts []uint16
	ExcludeOutboundCIDRs []netip.Prefix
}

// Default gives the settings of a pod that excludes nothing.
func Default() Settings {
	return Settings{
		ProxyUID:     config.ProxyUID,
		OutboundPort: config.OutboundPort,
		InboundPort:  config.InboundPort,
		AgentPort:    config.AgentPort,
	}
}

// uncaptured are the inbound ports that are reached as they are: the agent's, and those excluded, which may name it again.
func (s Settings) uncaptured() []uint16 {
	ports := []uint16{s.AgentPort}
	for _, p := range s.ExcludeInboundPorts {
		if p != s.AgentPort {
			ports = append(ports, p)
		}
	}
	return ports
}

// ParsePort reads one TCP port. The error names flag, value and what is allowed.
func ParsePort(flag, value string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s: %q: want a port number, 1 to 65535", flag, value)
	}
	return uint16(n), nil
}

// ParsePorts reads a comma-separated list of TCP ports, sorted and without duplicates; an empty
// string is none.
func ParsePorts(flag, list string) ([]uint16, error) {
	var ports []uint16
	for _, s := range split(list) {
		p, err := ParsePort(flag, s)
		if err != nil {
			return nil, err
		}
		ports = append(ports, p)
	}
	slices.Sort(ports)
	return slices.Compact(ports), nil
}

// ParseCIDRs reads a comma-separated list of CIDRs or addresses of either IP family, sorted and
// without duplicates; an empty string is none. Host bits are cleared.
func ParseCIDRs(flag, list string) ([]netip.Prefix, error) {
	var prefixes []netip.Prefix
	for _, s := range split(list) {
		p, err := parsePrefix(s)
		if err != nil {
			return nil, fmt.Errorf("%s: %q: want a CIDR such as 10.0.0.0/8 or fd00::/8, or one address", flag, s)
		}
		prefixes = append(prefixes, p)
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	return slices.Compact(prefixes), nil
}

// ParseAddresses reads a comma-separated list of IP addresses, sorted and without duplicates; an empty string is none.
func ParseAddresses(flag, list string) ([]netip.Addr, error) {
	var out []netip.Addr
	for _, s := range split(list) {
		ip, err := netip.ParseAddr(s)
		if err != nil || ip.Zone() != "" {
			return nil, fmt.Errorf("%s: %q: want an IP address such as 10.0.0.1 or fd00::1", flag, s)
		}
		out = append(out, ip.Unmap())
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), nil
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.WithZone("").Unmap().Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func split(list string) []string {
	if strings.TrimSpace(list) == "" {
		return nil
	}
	parts := strings.Split(list, ",")
	for i := range parts {
		parts[i] = strings.TrimSpace(parts[i])
	}
	return parts
}
