package agent

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"syscall"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// setUpIdentity makes the parts for a mesh with identities.
func (a *agent) setUpIdentity() error {
	s, log := a.settings, a.log
	a.plain = plaintext.New(plaintext.Options{Registerer: a.metrics.registry})
	a.ends = ends.New(ends.Options{Callers: a.plain, Envoy: a.admin, Registerer: a.metrics.registry, Log: log})
	if err := capture.CanEnd(); err != nil {
		log.Warn("silent connections that strict or a policy refuses now end only at their next byte, and those with mTLS not at all", "error", err)
	}
	var err error
	if a.addresses, err = newAddresses(s, func() *identity.Identity { return a.identity }, a.metrics.registry, log); err != nil {
		return err
	}
	register := func(r grpc.ServiceRegistrar) {
		a.plain.Register(r)
		a.addresses.Register(r)
	}
	a.identity, err = newIdentity(s, register, a.metrics.registry, log)
	return err
}

// newAddresses returns Addresses that ask the ADS server with the current identity.
func newAddresses(s Settings, current func() *identity.Identity, r prometheus.Registerer, log *slog.Logger) (*addresses.Addresses, error) {
	host, port, err := s.controlPlane()
	if err != nil {
		return nil, err // Settings.Validate has seen it
	}
	at := net.JoinHostPort(absolute(host), strconv.Itoa(int(port)))
	return addresses.New(addresses.Options{
		Node:       s.Node.Proto(),
		Dial:       func(ctx context.Context) (net.Conn, error) { return current().Dial(ctx, host, at) },
		Registerer: r,
		Log:        log,
	}), nil
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
	ended.Go(func() { a.addresses.Run(running) })
	ended.Go(func() { a.ends.Run(running) })
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
