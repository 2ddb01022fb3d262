package agent

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/agent/probe"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/socketlb"
)

// stopGrace is how long Envoy may take to end after the last active request.
const stopGrace = time.Second

// socketlbTimeout bounds the check where connections to Services go, which only waits for DNS.
const socketlbTimeout = time.Second

// drainPoll is the interval at which Envoy is asked for active requests.
const drainPoll = 20 * time.Millisecond

// agent is the state behind the HTTP handlers.
type agent struct {
	settings Settings
	log      *slog.Logger
	admin    *adminClient
	prober   *probe.Prober
	metrics  *metrics
	// identity is nil in a mesh without identities.
	identity *identity.Identity
	// plain are the pod's callers without mTLS; nil in a mesh without identities.
	plain *plaintext.Callers
	// ends ends connections that are refused now; nil in a mesh without identities.
	ends *ends.Ends
	// addresses are the pod addresses that the application calls; nil in a mesh without identities.
	addresses *addresses.Addresses
	// configured is set once Envoy has accepted its first listeners.
	configured atomic.Bool
	draining   atomic.Bool
	// missing is awaitReady's last result, nil while it does not run.
	missing atomic.Pointer[string]
	// startDone is closed once the sidecar has been ready.
	startDone chan struct{}
}

// Run starts Envoy and the agent's HTTP server. When ctx ends, it drains and stops Envoy and returns nil. If Envoy ends
// by itself, the error is an *ExitError.
func Run(ctx context.Context, s Settings, log *slog.Logger) error {
	if s.CaptureByCNI {
		if err := awaitCNI(ctx, s.Listen, capture.Captured, log); err != nil || ctx.Err() != nil {
			return err
		}
	}
	// Without an IP family in the address, Go listens on both families of the node. Early callers wait for an answer.
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", s.Listen)
	if err != nil {
		return err
	}
	defer listener.Close()
	if s.AwaitCapture {
		if err := awaitCapture(ctx, capture.Captured, log); err != nil {
			return nil // the pod ends
		}
	}
	// A mesh without identities has different capture rules.
	s.Node.CallerAddresses = s.IdentityAddress != "" && !slices.ContainsFunc(s.Node.IPs, func(ip netip.Addr) bool { return !capture.CallersSeen(ip) })
	if s.IdentityAddress != "" && !s.Node.CallerAddresses {
		log.Warn("the application sees this pod's own address as the address of all callers; the log of the init container, or of mizzen-cni on the node, says why")
	}
	s.Node.SocketLoadBalancing = socketLoadBalancing(ctx, s.ControlPlane, log)
	if err := writeBootstrap(s); err != nil {
		return err
	}
	a := &agent{
		settings: s,
		log:      log,
		admin:    newAdminClient(s.adminSocket()),
		prober:   probe.New(s.Node.IPs[0], s.Node.CallerAddresses),
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
		a.drain(ctx, envoy)
		envoy.stop(stopGrace)
		return nil
	}
}

// socketLoadBalancing reports whether the node translates Service addresses in sockets, judged by a connection to the
// control plane's Service.
func socketLoadBalancing(ctx context.Context, controlPlane string, log *slog.Logger) bool {
	ctx, cancel := context.WithTimeout(ctx, socketlbTimeout)
	defer cancel()
	translated, err := socketlb.Translates(ctx, controlPlane)
	switch {
	case err != nil:
		log.Info("cannot tell whether this node translates Service addresses in sockets", "error", err)
	case translated:
		log.Warn("calls to Services are not balanced: this node translates a Service's address to a pod's before the sidecar sees it", "remedy", fixed.SocketLoadBalancingRemedy)
	}
	return translated
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

// drain waits until no request is active, at most DrainTimeout, even after the end of ctx. The kubelet ends a native
// sidecar after all other containers of the pod, so nobody can begin a new request:
// https://kubernetes.io/docs/concepts/workloads/pods/sidecar-containers/
func (a *agent) drain(ctx context.Context, envoy *envoyProcess) {
	a.draining.Store(true)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), a.settings.DrainTimeout)
	defer cancel()
	tick := time.NewTicker(drainPoll)
	defer tick.Stop()
	start := time.Now()
	for asked := false; ; {
		active, err := a.admin.active(ctx)
		switch {
		case err != nil && ctx.Err() == nil:
			a.log.Warn("drain: Envoy does not report its active requests", "error", err)
			return
		case err == nil && active == 0:
			a.log.Info("drained", "took", time.Since(start))
			return
		case !asked:
			asked = true
			if err := a.admin.drain(ctx); err != nil {
				a.log.Warn("drain: Envoy cannot drain", "error", err)
			}
		}
		select {
		case <-envoy.done:
			return
		case <-ctx.Done():
			a.log.Warn("drain: stopping with requests still active", "active", active, "timeout", a.settings.DrainTimeout)
			return
		case <-tick.C:
		}
	}
}
