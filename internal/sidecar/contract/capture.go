package contract

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Captured has the capture settings of one pod. They are arguments of the capture container, or of the proxy if the
// node's CNI plugin captures. Ports are TCP ports.
type Captured struct {
	// CapturesOwnCalls redirects calls of the sidecar to its own pod to InboundPort, because they may carry mTLS, which
	// the application could not terminate.
	CapturesOwnCalls bool

	ExcludeInboundPorts  []uint16
	ExcludeOutboundPorts []uint16
	ExcludeOutboundCIDRs []netip.Prefix
}

// Capture has the arguments of the capture container.
type Capture struct {
	// ProxyUID is the user whose own connections are never captured.
	ProxyUID uint32
	// OutboundPort and InboundPort are Envoy's ports for captured connections.
	OutboundPort uint16
	InboundPort  uint16

	Captured

	// NodeAddresses are the addresses from which the kubelet may call. Args passes them by a variable (HostIPsEnv).
	NodeAddresses []netip.Addr
}

const (
	proxyUIDFlag      = "proxy-uid"
	outboundPortFlag  = "outbound-port"
	inboundPortFlag   = "inbound-port"
	ownCallsFlag      = "capture-own-calls"
	inboundFlag       = "exclude-inbound-ports"
	outboundFlag      = "exclude-outbound-ports"
	outboundCIDRsFlag = "exclude-outbound-cidrs"
	nodeAddressesFlag = "node-addresses"
)

// DefaultCapture captures everything.
func DefaultCapture() Capture {
	return Capture{ProxyUID: fixed.ProxyUID, OutboundPort: fixed.OutboundPort, InboundPort: fixed.InboundPort}
}

// Args returns the arguments of the container that captures and holds the pod's start. The container has HostIPsEnv if
// it captures own calls.
func (c Capture) Args() []string {
	args := append([]string{
		CaptureCommand,
		Arg(proxyUIDFlag, strconv.FormatUint(uint64(c.ProxyUID), 10)),
		Arg(outboundPortFlag, portText(c.OutboundPort)), Arg(inboundPortFlag, portText(c.InboundPort)),
	}, c.args()...)
	args = turnOn(args, AwaitSidecarFlag, true)
	if c.CapturesOwnCalls {
		args = append(args, Arg(nodeAddressesFlag, "$("+HostIPsEnv+")"))
	}
	return args
}

func (c Captured) args() []string {
	args := set(nil, inboundFlag, list(c.ExcludeInboundPorts, portText))
	args = turnOn(args, ownCallsFlag, c.CapturesOwnCalls)
	args = set(args, outboundFlag, list(c.ExcludeOutboundPorts, portText))
	return set(args, outboundCIDRsFlag, list(c.ExcludeOutboundCIDRs, netip.Prefix.String))
}

// CapturedFlags are the flags of Captured. They keep the values as given, so that an error can show them.
type CapturedFlags struct {
	inbound, outbound, cidrs string
	ownCalls                 bool
}

// Add adds the flags.
func (g *CapturedFlags) Add(f *pflag.FlagSet) {
	f.StringVar(&g.inbound, inboundFlag, "", "TCP ports of the pod that are not captured, separated by commas")
	f.StringVar(&g.outbound, outboundFlag, "", "TCP destination ports that are not captured, separated by commas")
	f.StringVar(&g.cidrs, outboundCIDRsFlag, "", "destinations that are not captured, CIDRs or addresses, separated by commas")
	f.BoolVar(&g.ownCalls, ownCallsFlag, false, "for a mesh with identities: redirect calls of the sidecar to its own pod to --inbound-port, and show the application the caller's address")
}

// Captured returns the settings from the flags, without bad values. The error names all bad values.
func (g *CapturedFlags) Captured() (Captured, error) {
	c := Captured{CapturesOwnCalls: g.ownCalls}
	var errs [3]error
	c.ExcludeInboundPorts, errs[0] = ParsePorts("--"+inboundFlag, g.inbound)
	c.ExcludeOutboundPorts, errs[1] = ParsePorts("--"+outboundFlag, g.outbound)
	c.ExcludeOutboundCIDRs, errs[2] = ParseCIDRs("--"+outboundCIDRsFlag, g.cidrs)
	return c, errors.Join(errs[:]...)
}

// ReadCaptured reads the arguments of a container, among which there may be others. It leaves bad values out, and
// reports them.
func ReadCaptured(args []string) (Captured, error) {
	var g CapturedFlags
	f := pflag.NewFlagSet("", pflag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.ParseErrorsAllowlist.UnknownFlags = true
	g.Add(f)
	err := f.Parse(args)
	c, wrong := g.Captured()
	return c, errors.Join(err, wrong)
}

// CaptureFlags are the flags of Capture.
type CaptureFlags struct {
	CapturedFlags
	proxyUID, outboundPort, inboundPort, nodeAddresses string
	// AwaitSidecar holds the pod's start until the sidecar is ready.
	AwaitSidecar bool
}

// Add adds the flags.
func (g *CaptureFlags) Add(f *pflag.FlagSet) {
	d := DefaultCapture()
	f.StringVar(&g.proxyUID, proxyUIDFlag, strconv.FormatUint(uint64(d.ProxyUID), 10), "user whose own connections are not captured")
	f.StringVar(&g.outboundPort, outboundPortFlag, portText(d.OutboundPort), "Envoy's port for outbound connections")
	f.StringVar(&g.inboundPort, inboundPortFlag, portText(d.InboundPort), "Envoy's port for inbound connections")
	g.CapturedFlags.Add(f)
	f.StringVar(&g.nodeAddresses, nodeAddressesFlag, "", "addresses from which the kubelet may call, besides the pod's gateways, separated by commas")
	f.BoolVar(&g.AwaitSidecar, AwaitSidecarFlag, false, "end only when the sidecar is ready, and print what it waits for")
}

// Capture reads every flag and reports all errors at once.
func (g *CaptureFlags) Capture() (Capture, error) {
	var c Capture
	var errs [5]error
	uid, err := strconv.ParseUint(g.proxyUID, 10, 32)
	if err != nil || uid == 0 {
		errs[0] = fmt.Errorf("--%s: %q: want a user id, 1 to 4294967295", proxyUIDFlag, g.proxyUID)
	}
	c.ProxyUID = uint32(uid)
	c.OutboundPort, errs[1] = ParsePort("--"+outboundPortFlag, g.outboundPort)
	c.InboundPort, errs[2] = ParsePort("--"+inboundPortFlag, g.inboundPort)
	c.Captured, errs[3] = g.Captured()
	c.NodeAddresses, errs[4] = ParseAddresses("--"+nodeAddressesFlag, g.nodeAddresses)
	return c, errors.Join(errs[:]...)
}
