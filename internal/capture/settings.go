package capture

import (
	"net/netip"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// Settings say what is captured. Ports are TCP ports.
type Settings struct {
	contract.Capture

	// AgentPort is not captured, because the kubelet's probes and Prometheus use it.
	AgentPort uint16

	// PodAddresses are the pod's addresses, one of each family. With them the sidecar can call the application with the
	// caller's address; without them all calls come from the pod's own address.
	PodAddresses []netip.Addr
}

// Default returns the settings of a pod that excludes nothing.
func Default() Settings {
	return Settings{Capture: contract.DefaultCapture(), AgentPort: fixed.AgentPort}
}

// uncaptured returns the inbound ports that are not captured: the agent's port and the excluded ports, which may repeat
// it.
func (s Settings) uncaptured() []uint16 {
	ports := []uint16{s.AgentPort}
	for _, p := range s.ExcludeInboundPorts {
		if p != s.AgentPort {
			ports = append(ports, p)
		}
	}
	return ports
}
