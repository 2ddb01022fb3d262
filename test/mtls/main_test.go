// Package mtls tests mTLS between two pods without a cluster: two network namespaces with the real capture rules,
// two real Envoys with the sidecar's bootstrap, and the real control-plane stages and ADS server in this process.
package mtls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/sdstest"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestMain runs the tests in network and mount namespaces of their own.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("test/mtls needs root: it makes network namespaces and writes nftables rules in them")
		return
	}
	world.Main(func() error {
		if m.Run() != 0 {
			return errors.New("failed")
		}
		return nil
	})
}

// Ports of the applications. The capture rules leave plainPort alone.
const webPort, greeterPort, plainPort, slowPort = 8080, 9090, 8081, 8082

// Services at which the client calls.
const (
	web, greeter, plain, self, mirrored = "10.96.0.10:80", "10.96.0.11:7", "10.96.0.12:80", "10.96.0.13:80", "10.96.0.14:80"
	slowService                         = "10.96.0.15:80"
)

var (
	idClient = mesh.SPIFFEID(world.TrustDomain, "bench", "client")
	idServer = mesh.SPIFFEID(world.TrustDomain, "bench", "server")
)

// start makes both pods, with an Envoy each.
func start(t *testing.T) (pods *world.Pods, cp *world.ControlPlane, client, server *world.Envoy) {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	if _, err := world.EnvoyPath(); err != nil {
		if os.Getenv("CI") == "true" || os.Getenv("MIZZEN_ENVOY") != "" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	var err error
	pods, err = world.NewPods(plainPort)
	must(err)
	service := func(name, ip, endpoint, identity string, port corev1.ServicePort) world.Service {
		return world.Service{Namespace: "bench", Name: name, IP: ip, Endpoints: []string{endpoint}, Identity: identity, Ports: []corev1.ServicePort{port}}
	}
	copied := service("web", "10.96.0.10", world.ServerIP, idServer, world.Port("http", 80, webPort))
	mirrored := service("mirrored", "10.96.0.14", world.ServerIP, mesh.PlainText, world.Port("http", 80, plainPort))
	mirrored.Mirror = &copied
	cp, err = world.NewControlPlane([]world.Service{
		copied, mirrored,
		service("greeter", "10.96.0.11", world.ServerIP, idServer, world.Port("tcp", 7, greeterPort)),
		service("slow", "10.96.0.15", world.ServerIP, idServer, world.Port("http", 80, slowPort)),
		service("plain", "10.96.0.12", world.ServerIP, mesh.PlainText, world.Port("http", 80, plainPort)),
		service("self", "10.96.0.13", world.ClientIP, idClient, world.Port("http", 80, webPort)),
	})
	must(err)
	authority, err := sdstest.NewCA()
	must(err)
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for _, side := range []struct {
		ns                world.NS
		pod, ip, ipv6, id string
	}{{pods.Client, "client", world.ClientIP, world.ClientIPv6, idClient}, {pods.Server, "server", world.ServerIP, world.ServerIPv6, idServer}} {
		secrets, err := sdstest.New(authority, side.id)
		must(err)
		address, _, err := cp.Serve(context.Background(), side.ns) // one server, which can end once only
		must(err)
		e, err := side.ns.StartEnvoy(1, func(dir string) ([]byte, error) {
			return world.JSON(side.ns.SecureSidecar(ctx, dir, side.pod, side.ip, address, secrets, side.ipv6))
		})
		must(err)
		t.Cleanup(e.Stop)
		client, server = server, e
	}
	return pods, cp, client, server
}
