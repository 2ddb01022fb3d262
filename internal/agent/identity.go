package agent

import (
	"context"
	"log/slog"
	"net"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
)

// setUpIdentity makes the parts for a mesh with identities.
func (a *agent) setUpIdentity() error {
	register, run, err := a.settings.kind().identityParts(a)
	if err != nil {
		return err
	}
	a.besideIdentity = run
	a.identity, err = newIdentity(a.settings, register, a.metrics.registry, a.log)
	return err
}

func newIdentity(s Settings, register func(grpc.ServiceRegistrar), r prometheus.Registerer, log *slog.Logger) (*identity.Identity, error) {
	host, port, err := net.SplitHostPort(s.IdentityAddress)
	if err != nil {
		return nil, err // Settings.Validate has seen it
	}
	noCoreDumps(log)
	return identity.New(identity.Options{
		Address:        s.IdentityAddress,
		Dial:           net.JoinHostPort(absolute(host), port),
		Namespace:      s.Node.Namespace,
		ServiceAccount: s.Node.ServiceAccount,
		Bundle:         s.TrustBundle,
		TokenFile:      s.TokenFile,
		Dir:            s.Dir,
		Keep:           identity.Keep{File: s.rootsFile(), Key: s.KeepKey},
		Register:       register,
		Registerer:     r,
		Log:            log,
	})
}

// runIdentity keeps the identity, and what is asked with it, until stop is called, also while Envoy drains. Envoy starts meanwhile: it calls
// the control plane when it has its secrets.
func (a *agent) runIdentity(ctx context.Context, failed chan<- error) (stop func()) {
	running, cancel := context.WithCancel(context.WithoutCancel(ctx))
	var ended sync.WaitGroup
	ended.Go(func() {
		if err := a.identity.Run(running); err != nil {
			failed <- err
		}
	})
	for _, run := range a.besideIdentity {
		ended.Go(func() { run(running) })
	}
	return func() {
		cancel()
		ended.Wait()
	}
}

// noCoreDumps keeps the key, which the agent and Envoy have in memory, out of files. Unlike a limit of 0, a limit of 1
// also turns off dumps to a program (do_coredump in the kernel's fs/coredump.c), but an unprivileged process cannot
// raise a limit.
func noCoreDumps(log *slog.Logger) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_CORE, &limit)
	if err == nil {
		limit.Max = min(limit.Max, 1)
		limit.Cur = limit.Max
		err = syscall.Setrlimit(syscall.RLIMIT_CORE, &limit)
	}
	if err != nil {
		log.Warn("core dumps cannot be turned off", "error", err)
	}
}
