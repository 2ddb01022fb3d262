package world

import (
	"context"
	"os"
	"path/filepath"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/agent/bootstraptest"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
)

// gatewayMemory is the memory limit of a gateway's container, which turns on Envoy's limits for its heap.
const gatewayMemory = 1 << 30

// GatewayBootstrap returns that of a Gateway's pod, with its control plane at the address, and serves its certificate to Envoy until
// ctx ends. The mesh has identities.
func GatewayBootstrap(ctx context.Context, dir string, cp *xdstest.ControlPlane, pod *corev1.Pod, address string) (*bootstrapv3.Bootstrap, error) {
	s := agent.Defaults()
	s.ControlPlane, s.IdentityAddress, s.Dir, s.Node = address, address, dir, nodeOfPod(pod)
	s.Gateway, s.Node.Gateway, s.MemoryLimit = true, true, gatewayMemory
	certificate, err := cp.Certificate(pod)
	if err != nil {
		return nil, err
	}
	if err := serveSecrets(ctx, dir, cp, certificate); err != nil {
		return nil, err
	}
	// As the agent writes it: clients are not asked to leave.
	if err := os.WriteFile(filepath.Join(dir, "leaving"), []byte("0"), 0o644); err != nil {
		return nil, err
	}
	return bootstraptest.Read(agent.Bootstrap(s))
}
