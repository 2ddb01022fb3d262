// Command mizzen-cni-node is the CNI plugin's process on each node; the chart's DaemonSet runs it. It installs the
// plugin, tells the plugin which pods to capture, and captures pods that the plugin missed. It may import internal/cni,
// config and internal/version.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/version"
)

// options are the settings from flags and environment.
type options struct {
	node, binDir, confDir, runDir, plugin, listen, logLevel string
}

func main() {
	if err := command().ExecuteContext(context.Background()); err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			fmt.Fprintf(os.Stderr, "mizzen-cni-node: %s\n", line)
		}
		os.Exit(1)
	}
}

func command() *cobra.Command {
	o := &options{
		node: os.Getenv("NODE_NAME"), binDir: "/opt/cni/bin", confDir: "/etc/cni/net.d", runDir: "/run/mizzen-cni",
		plugin: "/usr/local/bin/mizzen-cni", listen: fmt.Sprintf(":%d", config.ControllerHTTPPort), logLevel: "info",
	}
	cmd := &cobra.Command{
		Use:   "mizzen-cni-node",
		Short: "Run the CNI plugin of a node",
		Long: `Run the CNI plugin of a node.

Copies the plugin into the directory of the container runtime, puts its entry behind the others into the CNI
configuration that the runtime reads, and keeps it there. Answers the plugin on a Unix socket, and captures the
traffic of pods that it has passed over. Takes the entry out at its end, unless another process has taken over the socket.

Serves /readyz, /healthz and /metrics.`,
		Args:          cobra.NoArgs,
		Version:       version.Version,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := o.validate(); err != nil {
				return err
			}
			ctx, stop := signal.NotifyContext(cmd.Context(), syscall.SIGTERM, os.Interrupt)
			defer stop()
			return run(ctx, o)
		},
	}
	cmd.CompletionOptions.DisableDefaultCmd = true
	f := cmd.Flags()
	f.StringVar(&o.node, "node-name", o.node, "name of the node (default: $NODE_NAME)")
	f.StringVar(&o.binDir, "bin-dir", o.binDir, "directory of the runtime's CNI plugins")
	f.StringVar(&o.confDir, "conf-dir", o.confDir, "directory of the runtime's CNI configuration")
	f.StringVar(&o.runDir, "run-dir", o.runDir, "directory of the socket; its path must be the same on the node")
	f.StringVar(&o.plugin, "plugin", o.plugin, "the plugin's binary")
	f.StringVar(&o.listen, "listen", o.listen, "address at which /readyz, /healthz and /metrics are served")
	f.StringVar(&o.logLevel, "log-level", o.logLevel, "one of "+strings.Join(config.LogLevels, ", "))
	return cmd
}

// validate reports all errors at once.
func (o *options) validate() error {
	var errs []error
	for _, flag := range []struct{ name, value string }{
		{"node-name", o.node}, {"bin-dir", o.binDir}, {"conf-dir", o.confDir}, {"run-dir", o.runDir}, {"plugin", o.plugin},
	} {
		if flag.value == "" {
			errs = append(errs, fmt.Errorf("--%s: %q: want a value", flag.name, flag.value))
		}
	}
	if !slices.Contains(config.LogLevels, o.logLevel) {
		errs = append(errs, fmt.Errorf("--log-level: %q: want one of %s", o.logLevel, strings.Join(config.LogLevels, ", ")))
	}
	return errors.Join(errs...)
}

func newLogger(level string) *slog.Logger {
	l := map[string]slog.Level{
		"trace": slog.LevelDebug, "debug": slog.LevelDebug, "info": slog.LevelInfo, "warning": slog.LevelWarn,
		"error": slog.LevelError, "critical": slog.LevelError,
	}
	if level == "off" {
		return slog.New(slog.DiscardHandler)
	}
	return slog.New(slog.NewJSONHandler(os.Stderr, &slog.HandlerOptions{Level: l[level]}))
}
