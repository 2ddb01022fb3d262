package agent

import (
	"context"
	"fmt"
	"log/slog"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
)

func newIdentity(s Settings, r prometheus.Registerer, log *slog.Logger) (*identity.Identity, error) {
	noCoreDumps(log)
	return identity.New(identity.Options{
		Address:        s.IdentityAddress,
		Namespace:      s.Node.Namespace,
		ServiceAccount: s.Node.ServiceAccount,
		Bundle:         s.TrustBundle,
		TokenFile:      s.TokenFile,
		Dir:            s.Dir,
		Registerer:     r,
		Log:            log,
	})
}

// startIdentity waits for the first certificate: without one Envoy could not even ask for its configuration.
// It returns without one when ctx ends. The identity is kept until stop is called, also while Envoy drains.
func (a *agent) startIdentity(ctx context.Context, serverFailed <-chan error) (stop func(), err error) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := make(chan error, 1)
	go func() {
		defer close(ended)
		if err := a.identity.Run(running); err != nil {
			a.log.Error("Envoy gets no new certificates", "error", err)
			ended <- err
		}
	}()
	stop = func() {
		cancel()
		for range ended { // until it is closed
		}
	}
	select {
	case <-a.identity.Obtained():
	case err := <-ended:
		return stop, err
	case err := <-serverFailed:
		return stop, fmt.Errorf("serve %s: %w", a.settings.Listen, err)
	case <-ctx.Done():
	}
	return stop, nil
}

// noCoreDumps keeps the key, which the agent and Envoy have in memory, out of files. A limit of 1 also
// turns off dumps into a program, which one of 0 does not (do_coredump in the kernel's fs/coredump.c).
func noCoreDumps(log *slog.Logger) {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{Cur: 1, Max: 1}); err != nil {
		log.Warn("core dumps cannot be turned off", "error", err)
	}
}
