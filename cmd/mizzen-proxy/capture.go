package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

func captureCommand() *cobra.Command {
	var given capture.Flags
	var dryRun, await bool
	cmd := &cobra.Command{
		Use:   "capture",
		Short: "Lead the pod's TCP traffic through the sidecar",
		Long: `Lead the pod's TCP traffic through the sidecar.

Writes one nftables table, "inet mizzen", for IPv4 and IPv6 into the pod's network namespace and ends;
with --await-sidecar, when the sidecar is ready. The kubelet starts nothing after it in the pod before it ends.
Needs root with the capability NET_ADMIN and nothing else. Running it again replaces the table.`,
		Example: "  mizzen-proxy capture --exclude-outbound-ports=3306,5432 --exclude-outbound-cidrs=169.254.169.254/32",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := given.Settings()
			if err != nil {
				return usageError{err}
			}
			if dryRun {
				fmt.Fprint(cmd.OutOrStdout(), capture.Rules(s, capture.Full))
				return nil
			}
			if err := install(cmd, s); err != nil || !await {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return waitReady(ctx, startupURL, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	given.AddPorts(f)
	given.Add(f)
	given.AddNodeAddresses(f)
	f.BoolVar(&await, "await-sidecar", false, "end when the sidecar is ready, and not before; what it waits for is printed")
	f.BoolVar(&dryRun, "dry-run", false, "print the rules in nft syntax and change nothing")
	return cmd
}

func install(cmd *cobra.Command, s capture.Settings) error {
	installed, err := capture.Install(s)
	if err != nil {
		return err
	}
	fmt.Fprintln(cmd.ErrOrStderr(), "capture: "+installed.Describe(s))
	return nil
}
