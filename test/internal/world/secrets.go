package world

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/sdstest"
)

// SecureSidecar is Sidecar in the namespace, with an agent that serves these secrets, and knows who is at pods' addresses,
// until ctx ends. The pod may have another address.
func (n NS) SecureSidecar(ctx context.Context, dir, pod, ip, controlPlane string, secrets *sdstest.Server, also ...string) (*bootstrapv3.Bootstrap, error) {
	ips := []netip.Addr{netip.MustParseAddr(ip)}
	for _, ipv6 := range also {
		ips = append(ips, netip.MustParseAddr(ipv6))
	}
	of := nodeOf(pod, ips...)
	of.CallerAddresses = true
	boot, err := sidecar(dir, controlPlane, of)
	if err != nil {
		return nil, err
	}
	path := filepath.Join(dir, "sds.sock")
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { // Envoy runs as another user
		return nil, err
	}
	who := addresses.New(addresses.Options{
		Node: of.Proto(), Log: slog.New(slog.DiscardHandler),
		Dial: func(ctx context.Context) (c net.Conn, err error) {
			err = n.Do(func() error { c, err = (&net.Dialer{}).DialContext(ctx, "tcp", controlPlane); return err })
			return c, err
		},
	})
	go who.Run(ctx)
	callers := plaintext.New(plaintext.Options{Registerer: prometheus.NewRegistry()})
	go ends.New(ends.Options{
		Callers: callers, Envoy: agent.InUse(dir), End: n.end, Registerer: prometheus.NewRegistry(), Log: slog.New(slog.DiscardHandler),
	}).Run(ctx)
	go secrets.Serve(ctx, l, who.Register, callers.Register)
	cluster, err := sdstest.Cluster(&corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}})
	boot.StaticResources.Clusters = append(boot.StaticResources.Clusters, cluster)
	return boot, err
}

// end ends the connection of a caller as the sidecar's user does.
func (n NS) end(caller netip.AddrPort) error {
	return n.Do(func() error {
		if _, err := unix.SetfsuidRetUid(config.ProxyUID); err != nil {
			return err
		}
		defer func() { _, _ = unix.SetfsuidRetUid(0) }()
		return capture.EndConnection(caller)
	})
}
