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
	// life is Envoy's present one.
	life atomic.Pointer[life]
	// onStart is called before each start of Envoy: what is known of the one before is forgotten.
	onStart []func()
	// served is set once an Envoy of this agent has been ready.
	served   atomic.Bool
	draining atomic.Bool
}

// Run starts Envoy and the agent's HTTP server. An Envoy that has served and ends by itself is started again. When ctx ends, Run drains
// and stops Envoy and returns nil. If Envoy ends before it has served, the error is an *ExitError.
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
	a := newAgent(s, log)
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
	return a.live(ctx, failed)
}

// newAgent makes one without identity, whose Envoy has not been started.
func newAgent(s Settings, log *slog.Logger) *agent {
	a := &agent{settings: s, log: log, admin: newAdminClient(s.adminSocket()), metrics: newMetrics(prometheus.NewRegistry())}
	a.life.Store(newLife())
	return a
}

func writeBootstrap(s Settings) error {
	raw, err := Bootstrap(s)
	if err != nil {
		return err
	}
	if err := os.WriteFile(s.bootstrapFile(), raw, 0o600); err != nil {
		return fmt.Errorf("bootstrap: %w", err)
	}
	return nil
}
