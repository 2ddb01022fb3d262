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

	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
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
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o666); err != nil { // Envoy runs as another user
		return nil, err
	}
	who := addresses.New(addresses.Options{
		Node: of.Proto(), Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (c net.Conn, err error) {
			err = n.Do(func() error { c, err = net.Dial("tcp", controlPlane); return err })
			return c, err
		},
	})
	go who.Run(ctx)
	go secrets.Serve(ctx, l, who.Register)
	cluster, err := sdstest.Cluster(&corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}})
	boot.StaticResources.Clusters = append(boot.StaticResources.Clusters, cluster)
	return boot, err
}
