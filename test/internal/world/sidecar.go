package world

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"
	"os"

	bootstrapv3 "github.com/envoyproxy/go-control-plane/envoy/config/bootstrap/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent"
	"github.com/mizzen-mesh/mizzen/internal/agent/addresses"
	"github.com/mizzen-mesh/mizzen/internal/agent/bootstraptest"
	"github.com/mizzen-mesh/mizzen/internal/agent/ends"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/xdstest"
)

// Bootstrap returns that of a pod's sidecar in the namespace, with its control plane at the address. With identities it also
// runs the parts of the agent that Envoy talks to, until ctx ends. Their metrics are registered if r is not nil.
func (n NS) Bootstrap(
	ctx context.Context, dir string, cp *xdstest.ControlPlane, pod *corev1.Pod, address string, r prometheus.Registerer, change ...func(*agent.Settings),
) (*bootstrapv3.Bootstrap, error) {
	s := agent.Defaults()
	s.ControlPlane, s.Dir, s.Node = address, dir, nodeOfPod(pod)
	for _, f := range change {
		f(&s)
	}
	if cp.Authority == nil {
		return bootstraptest.Read(agent.Bootstrap(s))
	}
	s.IdentityAddress, s.Node.CallerAddresses = address, true
	certificate, err := cp.Certificate(pod)
	if err != nil {
		return nil, err
	}
	log := slog.New(slog.DiscardHandler)
	who := addresses.New(addresses.Options{Node: s.Node.Proto(), Log: log, Registerer: r, Dial: func(ctx context.Context) (net.Conn, error) {
		return n.dialTLS(ctx, address, cp.ClientTLS(certificate))
	}})
	callers := plaintext.New(plaintext.Options{Registerer: prometheus.NewRegistry()})
	closer := ends.New(ends.Options{Callers: callers, Envoy: agent.InUse(dir), End: n.end, Registerer: prometheus.NewRegistry(), Log: log})
	go who.Run(ctx)
	go closer.Run(ctx)
	if err := serveSecrets(ctx, dir, cp, certificate, who.Register, callers.Register); err != nil {
		return nil, err
	}
	return bootstraptest.Read(agent.Bootstrap(s))
}

// serveSecrets serves a certificate and the roots to Envoy, with further services, until ctx ends.
func serveSecrets(ctx context.Context, dir string, cp *xdstest.ControlPlane, certificate *tls.Certificate, services ...func(grpc.ServiceRegistrar)) error {
	secrets, err := cp.Secrets(certificate)
	if err != nil {
		return err
	}
	path := identity.SocketPath(dir)
	l, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return err
	}
	if err := os.Chmod(path, 0o666); err != nil { // Envoy runs as another user
		return err
	}
	go secrets.Serve(ctx, l, services...)
	return nil
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

func nodeOfPod(pod *corev1.Pod) node.Node {
	n := node.Node{
		Namespace: pod.Namespace, Pod: pod.Name, UID: string(pod.UID), ServiceAccount: pod.Spec.ServiceAccountName,
		NodeName: pod.Spec.NodeName, Version: "test",
	}
	for _, ip := range pod.Status.PodIPs {
		n.IPs = append(n.IPs, netip.MustParseAddr(ip.IP))
	}
	return n
}

// dialTLS connects from the namespace.
func (n NS) dialTLS(ctx context.Context, address string, settings *tls.Config) (net.Conn, error) {
	var c net.Conn
	if err := n.Do(func() (err error) {
		c, err = (&net.Dialer{}).DialContext(ctx, "tcp", address)
		return err
	}); err != nil {
		return nil, err
	}
	secured := tls.Client(c, settings)
	if err := secured.HandshakeContext(ctx); err != nil {
		c.Close()
		return nil, err
	}
	return secured, nil
}

// Here is the namespace that the program is in.
func Here() (NS, error) {
	handle, err := netns.Get()
	return NS{handle}, err
}
