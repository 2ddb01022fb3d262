// Command mizzen-controller is Mizzen's control plane: the admission webhook, its certificate and the xDS server. All
// replicas run the same parts.
package main

import (
	"errors"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"

	"github.com/spf13/cobra"
	ctrl "sigs.k8s.io/controller-runtime"

	"github.com/mizzen-mesh/mizzen/internal/version"
)

// Exit codes: 1 is a failure at run time, 2 a bad flag or configuration.
const (
	exitFailed = 1
	exitUsage  = 2
)

// usageError is a bad flag or configuration.
type usageError struct{ error }

func main() {
	limitMemory(os.Getenv("MIZZEN_MEMORY_LIMIT"))
	if err := newCommand().ExecuteContext(ctrl.SetupSignalHandler()); err != nil {
		fmt.Fprintln(os.Stderr, "mizzen-controller:", err)
		if errors.As(err, &usageError{}) {
			os.Exit(exitUsage)
		}
		os.Exit(exitFailed)
	}
}

func newCommand() *cobra.Command {
	o := defaultOptions()
	cmd := &cobra.Command{
		Use:           "mizzen-controller",
		Short:         "Mizzen's control plane: admission webhook, certificates and xDS",
		Version:       version.Version,
		Args:          noArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mesh, err := o.complete()
			if err != nil {
				return usageError{err}
			}
			return run(cmd.Context(), o, mesh)
		},
	}
	o.addFlags(cmd.Flags())
	cmd.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	cmd.AddCommand(newCheckCommand())
	return cmd
}

func noArgs(cmd *cobra.Command, args []string) error {
	if err := cobra.NoArgs(cmd, args); err != nil {
		return usageError{err}
	}
	return nil
}

// limitMemory sets the garbage collector's soft limit to nine tenths of the container's memory limit, which the chart
// passes in bytes. GOMEMLIMIT overrides it.
func limitMemory(bytes string) {
	limit, err := strconv.ParseInt(bytes, 10, 64)
	if err != nil || limit <= 0 || os.Getenv("GOMEMLIMIT") != "" {
		return
	}
	debug.SetMemoryLimit(limit / 10 * 9)
}
