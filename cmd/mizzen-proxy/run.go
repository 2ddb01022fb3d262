package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/sidecar/contract"
)

// gcPercent keeps the agent small, because every pod has one. There is no memory limit: a limit near the process's
// normal size would run the collector all the time, at ten times the CPU, and save 1 to 2 MB. The environment (GOGC,
// GOMEMLIMIT) overrides it.
const gcPercent = 50

// threads is how many may run Go code at a time. Go's default is one for each of the node's CPUs, each with memory of its own:
// for 64 the agent holds 2 MB more at rest, and 8 MB more after some scrapes. With two a scrape takes 1.7 times the CPU,
// because the collector and threads that look for work use the second. The environment (GOMAXPROCS) overrides it.
const threads = 1

func runCommand() *cobra.Command {
	s := agent.Defaults()
	return runCommandFor(&s)
}

// runCommandFor returns the command, which reads its flags into s.
func runCommandFor(s *agent.Settings) *cobra.Command {
	var captured contract.CapturedFlags
	cmd := &cobra.Command{
		Use:   contract.RunCommand,
		Short: "Start Envoy, supervise it, and drain it at the end",
		Long: `Start Envoy, supervise it, and drain it at the end.

Who the pod is comes from the environment: POD_NAME, POD_NAMESPACE, POD_UID, SERVICE_ACCOUNT and
POD_IPS are required; NODE_NAME, WORKLOAD (what the pod belongs to, <kind>/<name>) and
MIZZEN_APP_PROBES (the application's probes, JSON) may be empty. MIZZEN_TRUST_BUNDLE (the mesh's
roots, PEM) is required with --identity-address.

With --gateway it runs in a pod of a Gateway, without an application. At SIGTERM /readyz fails at once, but
Envoy goes on as before for --drain-delay, so that load balancers stop choosing the pod. Then clients are
asked to leave (HTTP/1.1 "connection: close", HTTP/2 GOAWAY), and Envoy ends when nothing is active.
MIZZEN_MEMORY_LIMIT (bytes) is the container's memory limit, if its cgroup does not say it. Near it Envoy
refuses requests and then connections.

Serves on port 15020: /readyz, /startupz (the same, but waits a moment for it), /healthz, /metrics,
the application's probes under /app-health/, and readiness as a gRPC health check, whose answer has the
reason in words. What a start waits for is also logged.

Starts Envoy again if it has served and ends by itself. Exits with Envoy's own code (128 + the signal) if
Envoy ends before it has served, 2 if flags or environment are wrong, and 0 after SIGTERM or SIGINT.`,
		Example: "  mizzen-proxy run --control-plane=mizzen-controller.mizzen-system.svc.cluster.local:15010",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := checkKind(cmd.Flags(), s); err != nil {
				return usageError{err}
			}
			// These flags are for the CNI plugin, which could not report a mistake in them to anybody.
			if _, err := captured.Captured(); err != nil {
				return usageError{err}
			}
			return run(*s)
		},
	}
	f := cmd.Flags()
	s.Add(f, agent.LogLevels)
	f.DurationVar(&s.DrainTimeout, drainTimeoutFlag, s.DrainTimeout, fmt.Sprintf("longest wait for active requests before Envoy ends, 0s to 1h; with --gateway %s by default", agent.GatewayDrainTimeout))
	f.DurationVar(&s.DrainDelay, drainDelayFlag, s.DrainDelay, "with --gateway: how long it serves as before when it is no longer ready, 0s to 1h")
	f.IntVar(&s.MaxConnections, maxConnectionsFlag, s.MaxConnections, "with --gateway: connections of clients at a time; more are closed at once")
	captured.Add(f)
	f.StringVar(&s.EnvoyPath, "envoy", s.EnvoyPath, "the Envoy binary")
	f.StringVar(&s.TokenFile, "token-file", s.TokenFile, "service account token for the identity server")
	f.StringVar(&s.Dir, "dir", s.Dir, "writable directory for bootstrap and sockets")
	f.StringVar(&s.KeepDir, "keep-dir", s.KeepDir, "directory that survives a restart of the container, for the newest roots")
	f.StringVar(&s.Listen, "listen", s.Listen, "address of the agent's HTTP server")
	for _, name := range []string{"envoy", "token-file", "dir", "keep-dir", "listen"} {
		_ = f.MarkHidden(name) // fails only for a name that does not exist
	}
	return cmd
}

const (
	drainTimeoutFlag   = "drain-timeout"
	drainDelayFlag     = "drain-delay"
	maxConnectionsFlag = "max-connections"
)

// checkKind returns an error for a flag that the kind of proxy does not have, and sets the defaults of a gateway.
func checkKind(f *pflag.FlagSet, s *agent.Settings) error {
	others, why := []string{drainDelayFlag, maxConnectionsFlag}, "only with --gateway"
	if s.Gateway {
		others, why = contract.SidecarFlags, "not with --gateway, it is for sidecars"
		if !f.Changed(drainTimeoutFlag) {
			s.DrainTimeout = agent.GatewayDrainTimeout
		}
	}
	var errs []error
	for _, name := range others {
		if f.Changed(name) {
			errs = append(errs, fmt.Errorf("--%s: %q: %s", name, f.Lookup(name).Value, why))
		}
	}
	return errors.Join(errs...)
}

func run(s agent.Settings) error {
	if err := s.ReadEnv(os.Getenv); err != nil {
		return usageError{err}
	}
	if err := s.Validate(); err != nil {
		return usageError{err}
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	if os.Getenv("GOMAXPROCS") == "" {
		runtime.GOMAXPROCS(threads)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	// A second signal ends the agent at once, and the kernel ends Envoy with it.
	context.AfterFunc(ctx, stop)
	return agent.Run(ctx, s, agent.NewLogger(os.Stderr, s.LogLevel))
}
