package world

import (
	"context"
	"net"
	"os"
	"path/filepath"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/mizzen-mesh/mizzen/internal/sdstest"
)

// SecureSidecar is Sidecar with an agent that serves these secrets until ctx ends.
func SecureSidecar(ctx context.Context, dir, pod, ip, controlPlane string, secrets *sdstest.Server) (*bootstrapv3.Bootstrap, error) {
	boot, err := Sidecar(dir, pod, ip, controlPlane)
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
	go secrets.Serve(ctx, l)
	cluster, err := sdstest.Cluster(&corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}})
	boot.StaticResources.Clusters = append(boot.StaticResources.Clusters, cluster)
	return boot, err
}
