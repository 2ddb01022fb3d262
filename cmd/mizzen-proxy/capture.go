package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// captureFlags are the values as given, so that an error can show them.
type captureFlags struct {
	proxyUID, outboundPort, inboundPort string
	excludeInbound, excludeOutbound     string
	excludeCIDRs                        string
	ownCalls, dryRun                    bool
}

func captureCommand() *cobra.Command {
	var given captureFlags
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Lead the pod's TCP traffic through the sidecar",
		Long: `Lead the pod's TCP traffic through the sidecar.

Writes one nftables table, "inet mizzen", for IPv4 and IPv6 into the pod's network namespace and ends.
Needs root with the capability NET_ADMIN and nothing else. Running it again replaces the table.`,
		Example: "  mizzen-proxy capture --exclude-outbound-ports=3306,5432 --exclude-outbound-cidrs=169.254.169.254/32",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := given.settings()
			if err != nil {
				return usageError{err}
			}
			if given.dryRun {
				fmt.Fprint(cmd.OutOrStdout(), capture.Rules(s, capture.Full))
				return nil
			}
			return install(cmd, s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&given.proxyUID, "proxy-uid", strconv.Itoa(config.ProxyUID), "user whose own connections are not captured")
	f.StringVar(&given.outboundPort, "outbound-port", strconv.Itoa(config.OutboundPort), "Envoy's port for outbound connections")
	f.StringVar(&given.inboundPort, "inbound-port", strconv.Itoa(config.InboundPort), "Envoy's port for inbound connections")
	f.StringVar(&given.excludeInbound, "exclude-inbound-ports", "", "TCP ports of the pod that are not captured, separated by commas")
	f.StringVar(&given.excludeOutbound, "exclude-outbound-ports", "", "TCP destination ports that are not captured, separated by commas")
	f.StringVar(&given.excludeCIDRs, "exclude-outbound-cidrs", "", "destinations that are not captured, CIDRs or addresses, separated by commas")
	f.BoolVar(&given.ownCalls, "capture-own-calls", false, "for a mesh with identities: send calls of the sidecar to its own pod to --inbound-port, and let the application see who calls")
	f.BoolVar(&given.dryRun, "dry-run", false, "print the rules in nft syntax and change nothing")
	return cmd
}

// settings reads every flag and reports all errors at once.
func (g captureFlags) settings() (capture.Settings, error) {
	s := capture.Default()
	s.CapturesOwnCalls = g.ownCalls
	var errs [6]error
	var uid uint64
	if uid, errs[0] = strconv.ParseUint(g.proxyUID, 10, 32); errs[0] != nil || uid == 0 {
		errs[0] = fmt.Errorf("--proxy-uid: %q: want a user id, 1 to 4294967295", g.proxyUID)
	}
	s.ProxyUID = uint32(uid)
	s.OutboundPort, errs[1] = capture.ParsePort("--outbound-port", g.outboundPort)
	s.InboundPort, errs[2] = capture.ParsePort("--inbound-port", g.inboundPort)
	s.ExcludeInboundPorts, errs[3] = capture.ParsePorts("--exclude-inbound-ports", g.excludeInbound)
	s.ExcludeOutboundPorts, errs[4] = capture.ParsePorts("--exclude-outbound-ports", g.excludeOutbound)
	s.ExcludeOutboundCIDRs, errs[5] = capture.ParseCIDRs("--exclude-outbound-cidrs", g.excludeCIDRs)
	return s, errors.Join(errs[:]...)
}

func install(cmd *cobra.Command, s capture.Settings) error {
	installed, err := capture.Install(s)
	if err != nil {
		return err
	}
	line := fmt.Sprintf("capture: outbound to %d, inbound to %d, not user %d", s.OutboundPort, s.InboundPort, s.ProxyUID)
	if len(s.ExcludeInboundPorts) > 0 {
		line += fmt.Sprintf(", not inbound ports %v", s.ExcludeInboundPorts)
	}
	if len(s.ExcludeOutboundPorts) > 0 {
		line += fmt.Sprintf(", not outbound ports %v", s.ExcludeOutboundPorts)
	}
	if len(s.ExcludeOutboundCIDRs) > 0 {
		line += fmt.Sprintf(", not destinations %v", s.ExcludeOutboundCIDRs)
	}
	if installed.Variant == capture.Plain {
		line += "; this kernel lacks nft_socket or reject in prerouting, so ports without a listener are captured too"
	}
	if err := installed.WithoutCallers; err != nil {
		line += "; the application sees the pod's own address as that of all callers: " + err.Error()
	}
	if err := installed.WithoutRoute; err != nil {
		line += "; a little more CPU for each packet to the application: " + err.Error()
	}
	fmt.Fprintln(cmd.ErrOrStderr(), line)
	return nil
}
