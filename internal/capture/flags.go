package capture

import (
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config"
)

// Flags are what is captured, as a command line gives it: the values as given, so that an error can show them.
type Flags struct {
	proxyUID, outboundPort, inboundPort string
	excludeInbound, excludeOutbound     string
	excludeCIDRs, nodeAddresses         string
	ownCalls, ports                     bool
}

// AddPorts adds the flags for the user and the ports of the sidecar.
func (g *Flags) AddPorts(f *pflag.FlagSet) {
	g.ports = true
	f.StringVar(&g.proxyUID, "proxy-uid", strconv.Itoa(config.ProxyUID), "user whose own connections are not captured")
	f.StringVar(&g.outboundPort, "outbound-port", strconv.Itoa(config.OutboundPort), "Envoy's port for outbound connections")
	f.StringVar(&g.inboundPort, "inbound-port", strconv.Itoa(config.InboundPort), "Envoy's port for inbound connections")
}

// Add adds the flags that differ from pod to pod.
func (g *Flags) Add(f *pflag.FlagSet) {
	f.StringVar(&g.excludeInbound, "exclude-inbound-ports", "", "TCP ports of the pod that are not captured, separated by commas")
	f.StringVar(&g.excludeOutbound, "exclude-outbound-ports", "", "TCP destination ports that are not captured, separated by commas")
	f.StringVar(&g.excludeCIDRs, "exclude-outbound-cidrs", "", "destinations that are not captured, CIDRs or addresses, separated by commas")
	f.BoolVar(&g.ownCalls, "capture-own-calls", false, "for a mesh with identities: send calls of the sidecar to its own pod to --inbound-port, and let the application see who calls")
}

// AddNodeAddresses adds the flag for what only the pod itself knows when it starts.
func (g *Flags) AddNodeAddresses(f *pflag.FlagSet) {
	f.StringVar(&g.nodeAddresses, "node-addresses", "", "addresses from which the kubelet may call, separated by commas; the pod's gateways are known")
}

// Settings reads every flag and reports all errors at once. Where AddPorts was not called, user and ports are Default's.
func (g *Flags) Settings() (Settings, error) {
	s := Default()
	s.CapturesOwnCalls = g.ownCalls
	var errs [7]error
	if g.ports {
		var uid uint64
		if uid, errs[0] = strconv.ParseUint(g.proxyUID, 10, 32); errs[0] != nil || uid == 0 {
			errs[0] = fmt.Errorf("--proxy-uid: %q: want a user id, 1 to 4294967295", g.proxyUID)
		}
		s.ProxyUID = uint32(uid)
		s.OutboundPort, errs[1] = ParsePort("--outbound-port", g.outboundPort)
		s.InboundPort, errs[2] = ParsePort("--inbound-port", g.inboundPort)
	}
	s.ExcludeInboundPorts, errs[3] = ParsePorts("--exclude-inbound-ports", g.excludeInbound)
	s.ExcludeOutboundPorts, errs[4] = ParsePorts("--exclude-outbound-ports", g.excludeOutbound)
	s.ExcludeOutboundCIDRs, errs[5] = ParseCIDRs("--exclude-outbound-cidrs", g.excludeCIDRs)
	s.NodeAddresses, errs[6] = ParseAddresses("--node-addresses", g.nodeAddresses)
	return s, errors.Join(errs[:]...)
}

// ParseArgs reads the settings out of a sidecar's arguments (Flags.Add), beside which there may be others.
func ParseArgs(args []string) (Settings, error) {
	var g Flags
	f := pflag.NewFlagSet("capture", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.ParseErrorsAllowlist.UnknownFlags = true
	g.Add(f)
	if err := f.Parse(args); err != nil {
		return Settings{}, err
	}
	return g.Settings()
}
