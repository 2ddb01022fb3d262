package agent

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
)

// stopGrace is how long Envoy may take to end after the last active request.
const stopGrace = time.Second

// drainPoll is the interval at which Envoy is asked for active requests.
const drainPoll = 20 * time.Millisecond

// agent is the state behind the HTTP handlers.
type agent struct {
	settings Settings
	log      *slog.Logger
	admin    *adminClient
	metrics  *metrics
	// identity is nil in a mesh without identities.
	identity *identity.Identity
	// besideIdentity runs for as long as the identity.
	besideIdentity []func(context.Context)
	// prober is nil in a gateway.
	prober *probe.Prober
	// plain are the pod's callers without mTLS; nil in a mesh without identities, and in a gateway.
	plain *plaintext.Callers
	// configured is set once Envoy has accepted its first listeners.
	configured atomic.Bool
	draining   atomic.Bool
	// missing is awaitReady's last result, nil while it does not run.
	missing atomic.Pointer[string]
	// startDone is closed once the proxy has been ready.
	startDone chan struct{}
}

// Run starts Envoy and the agent's HTTP server. When ctx ends, it drains and stops Envoy and returns nil. If Envoy ends
// by itself, the error is an *ExitError.
func Run(ctx context.Context, s Settings, log *slog.Logger) error {
	if s.MemoryLimit == 0 {
		s.MemoryLimit = containerLimit(cgroups)
	}
	listener, err := s.kind().listen(ctx, &s, log)
	if err != nil || listener == nil {
		return err
	}
	defer listener.Close()
	if err := writeBootstrap(s); err != nil {
		return err
	}
	a := &agent{
		settings: s,
		log:      log,
		admin:    newAdminClient(s.adminSocket()),
		metrics:  newMetrics(prometheus.NewRegistry()),

		startDone: make(chan struct{}),
	}
	if s.IdentityAddress != "" {
		if err := a.setUpIdentity(); err != nil { //nolint:contextcheck // a Unix socket needs no wait
			return err
		}
	}
	server := newServer(a.handler())
	failed := make(chan error, 2)
	go func() { failed <- fmt.Errorf("serve %s: %w", s.Listen, server.Serve(limit(listener))) }()
	defer server.Close()

	if a.identity != nil {
		defer a.runIdentity(ctx, failed)()
	}
	envoy, err := startEnvoy(s)
	if err != nil {
		return err
	}
	log.Info("Envoy started", "pid", envoy.cmd.Process.Pid, "controlPlane", s.ControlPlane, "node", s.Node.ID())
	go a.awaitReady(ctx)
	select {
	case <-envoy.done:
		return envoy.exitError()
	case err := <-failed:
		envoy.stop(stopGrace)
		return err
	case <-ctx.Done():
		a.draining.Store(true)
		s.kind().drain(ctx, a, envoy)
		envoy.stop(stopGrace)
		return nil
	}
}

func writeBootstrap(s Settings) error {
	raw, err := Bootstrap(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.bootstrapFile(), raw, 0o600); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	// A killed container leaves its socket behind if a volume survives the container.
	if err := os.Remove(s.adminSocket()); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("old admin socket: %w", err)
	}
	return nil
}
