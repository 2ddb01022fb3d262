package main

import (
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

func captureCommand() *cobra.Command {
	var given contract.CaptureFlags
	var dryRun bool
	cmd := &cobra.Command{
		Use:   contract.CaptureCommand,
		Short: "Redirect the pod's TCP traffic to the sidecar",
		Long: `Redirect the pod's TCP traffic to the sidecar.

Writes one nftables table, "inet mizzen", for IPv4 and IPv6 into the pod's network namespace and ends;
with --await-sidecar, when the sidecar is ready. The kubelet starts nothing after it in the pod before it ends.
Needs root with the capability NET_ADMIN and nothing else. Running it again replaces the table.`,
		Example: "  mizzen-proxy capture --exclude-outbound-ports=3306,5432 --exclude-outbound-cidrs=169.254.169.254/32",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s := capture.Default()
			var err error
			if s.Capture, err = given.Capture(); err != nil {
				return usageError{err}
			}
			if dryRun {
				fmt.Fprint(cmd.OutOrStdout(), capture.Rules(s, capture.Full))
				return nil
			}
			if err := install(cmd, s); err != nil || !given.AwaitSidecar {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return waitReady(ctx, startupURL, cmd.ErrOrStderr())
		},
	}
	f := cmd.Flags()
	given.Add(f)
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
