package capture

import (
	"net/netip"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// Settings say what is captured. Ports are TCP ports.
type Settings struct {
	contract.Capture

	// AgentPort is reached from outside as it is: the kubelet's probes and Prometheus use it.
	AgentPort uint16

	// PodAddresses are the pod's own, one of each family. With them the sidecar can call the application in the name of
	// whoever calls the pod; without, all calls come from the pod's own address.
	PodAddresses []netip.Addr
}

// Default gives the settings of a pod that excludes nothing.
func Default() Settings {
	return Settings{Capture: contract.DefaultCapture(), AgentPort: config.AgentPort}
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
