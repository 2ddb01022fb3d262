// Command mizzen-proxy runs in pods: "run" beside Envoy in the sidecar or a gateway, and "capture" once at the start, before
// everything else. It may import internal/agent, internal/capture, internal/sidecar/contract, config/fixed and
// internal/version.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// Exit codes beside Envoy's own, which "run" passes on.
const (
	exitFailure = 1
	exitUsage   = 2
)

// usageError is a bad command line or environment. Trying again does not help.
type usageError struct{ error }

func main() {
	os.Exit(execute(os.Args[1:], os.Stdout, os.Stderr))
}

// execute runs one command line and returns the exit code.
func execute(args []string, stdout, stderr io.Writer) int {
	root := &cobra.Command{
		Use:           "mizzen-proxy",
		Short:         "The Mizzen sidecar, and the proxy of Gateways",
		Args:          noArgs, // the rest is an unknown command
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.CompletionOptions.DisableDefaultCmd = true
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	root.AddCommand(runCommand(), captureCommand(), versionCommand())
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	err := root.ExecuteContext(context.Background())
	if err == nil {
		return 0
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		fmt.Fprintf(stderr, "mizzen-proxy: %s\n", line)
	}
	return exitCode(err)
}

func exitCode(err error) int {
	var usage usageError
	var envoy *agent.ExitError
	switch {
	case errors.As(err, &usage):
		return exitUsage
	case errors.As(err, &envoy):
		return envoy.Code
	}
	return exitFailure
}

func versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the version",
		Args:  noArgs,
		Run:   func(cmd *cobra.Command, _ []string) { fmt.Fprintln(cmd.OutOrStdout(), version.Version) },
	}
}

// noArgs turns stray arguments into a usage error.
func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}
