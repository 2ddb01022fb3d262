package identity

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/mizzen-mesh/mizzen/internal/agent/sdsserver"
)

// Options are what an Identity is told.
type Options struct {
	// Address is the host:port of the control plane's identity server. Its certificate is for this host. Dial is
	// where it is reached, Address by default.
	Address, Dial string
	// Namespace and ServiceAccount are what the certificate must be for.
	Namespace, ServiceAccount string
	// Bundle holds the roots of the mesh in PEM, as they were when the pod was made.
	Bundle string
	// TokenFile holds the service account token. The kubelet replaces it, so it is read each time.
	TokenFile string
	// Dir is where the socket for Envoy lies.
	Dir string
	// Keep is where the newest roots lie for the next container.
	Keep Keep
	// Register adds what else Envoy asks or tells over that socket. It may be nil.
	Register   func(grpc.ServiceRegistrar)
	Registerer prometheus.Registerer
	Log        *slog.Logger
}

// Identity holds what the workload proves itself with, and whom it trusts.
type Identity struct {
	opts    Options
	log     *slog.Logger
	client  *client
	sds     *sdsserver.Server
	socket  net.Listener
	metrics *metrics

	// applying makes changes one by one; current is read without it.
	applying sync.Mutex
	current  atomic.Pointer[credentials]
	// obtained is closed with the first certificate.
	obtained chan struct{}
	// failed receives after a failure to obtain one.
	failed chan struct{}
	// renew asks for a certificate before its time.
	renew chan struct{}
	// trouble is why there is no certificate yet, or no newer one.
	trouble atomic.Pointer[string]
	// renewal is when the next certificate is asked for, nil before the first.
	renewal atomic.Pointer[time.Time]
}

// credentials belong together: the certificate's root is among the roots. They never change.
type credentials struct {
	roots roots
	// certificate is nil before the first one.
	certificate *tls.Certificate
	// notAfter is its end by this machine's clock, and life what was left of it when it came.
	notAfter time.Time
	life     time.Duration
}

// controlPlaneNow is the time by the clock that wrote the certificate.
func (c *credentials) controlPlaneNow() time.Time {
	return time.Now().Add(c.certificate.Leaf.NotAfter.Sub(c.notAfter))
}

// SocketPath is where Envoy finds its secrets.
func SocketPath(dir string) string { return filepath.Join(dir, "sds.sock") }

// New reads the roots, the newest of those that are known, and opens the socket for Envoy.
func New(o Options) (*Identity, error) {
	known, err := startRoots(o)
	if err != nil {
		return nil, err
	}
	i := &Identity{
		opts: o, log: o.Log, metrics: newMetrics(o.Registerer),
		obtained: make(chan struct{}), failed: make(chan struct{}, 1), renew: make(chan struct{}, 1),
	}
	i.sds = sdsserver.New(o.Log, func(string) { i.metrics.rejected.Inc() })
	if i.client, err = newClient(o.Address, cmp.Or(o.Dial, o.Address), i.current.Load); err != nil {
		return nil, err
	}
	i.current.Store(&credentials{roots: known})
	i.metrics.setRoots(known)
	if i.socket, err = sdsserver.Listen(SocketPath(o.Dir)); err != nil {
		return nil, err
	}
	return i, nil
}

// Obtained is closed once there is a certificate.
func (i *Identity) Obtained() <-chan struct{} { return i.obtained }

// Failed receives when Missing may say something else. It is for one receiver.
func (i *Identity) Failed() <-chan struct{} { return i.failed }

// Missing says why there is no certificate yet. It is empty once there is one.
func (i *Identity) Missing() string {
	select {
	case <-i.obtained:
		return ""
	default:
	}
	text := fmt.Sprintf("waiting for a certificate from the control plane (%s)", i.opts.Address)
	if why := i.trouble.Load(); why != nil {
		text += ": " + *why
	}
	return text
}

// Run renews, follows the roots and serves Envoy until ctx ends. It returns earlier only if the socket fails.
func (i *Identity) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { i.keepCertificate(ctx) })
	running.Go(func() { i.followRoots(ctx) })
	err := i.sds.Serve(ctx, i.socket, i.opts.Register)
	cancel()
	running.Wait()
	i.client.close()
	return err
}

// apply puts credentials into use: for Envoy, for the agent's own calls, and for the next start.
func (i *Identity) apply(next *credentials) error {
	chain, key, err := encode(next.certificate)
	if err != nil {
		return err
	}
	if err := i.sds.Set(chain, key, next.roots.pem, next.roots.version); err != nil {
		return err
	}
	before := i.current.Swap(next)
	i.metrics.expiry.Set(float64(next.notAfter.Unix()))
	if before.roots.version != next.roots.version {
		i.metrics.setRoots(next.roots)
		i.log.Info("the mesh's roots have changed", "version", next.roots.version, "roots", len(next.roots.certs))
	}
	// Written each time: what failed the last time may work now.
	if err := i.opts.Keep.save(next.roots); err != nil {
		i.log.Warn("cannot store the newest roots for a restart of the container", "error", err)
	}
	return nil
}
