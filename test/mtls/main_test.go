// Package mtls tests mTLS between two pods without a cluster: two network namespaces with the real capture rules,
// two real Envoys with the sidecar's bootstrap, and the real control plane (internal/xdstest) in this process.
package mtls

import (
	"context"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"

	"github.com/mizzen-mesh/mizzen/internal/sds"
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
	}, plainPort)
	must(err)
	t.Cleanup(func() { must(cp.Stop()) })
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	for name, ns := range map[string]world.NS{"client": pods.Client, "server": pods.Server} {
		pod, err := cp.Pod(name)
		must(err)
		address, _, err := cp.Serve(ns)
		must(err)
		metrics := prometheus.NewRegistry()
		e, err := ns.StartEnvoy(1, func(dir string) ([]byte, error) {
			boot, err := ns.Bootstrap(ctx, dir, cp.ControlPlane, pod, address, metrics)
			for _, c := range boot.GetStaticResources().GetClusters() {
				if c.Name == sds.Cluster {
					c.AltStatName = "" // so that its statistics are there
				}
			}
			return world.JSON(boot, err)
		})
		must(err)
		t.Cleanup(e.Stop)
		if name == "client" {
			client, clientMetrics = e, metrics
		} else {
			server = e
		}
	}
	return pods, cp, client, server
}

// clientMetrics are those of the client's agent.
var clientMetrics *prometheus.Registry

// asked is the number of addresses of pods that the client's agent remembers.
func asked(t *testing.T) int {
	t.Helper()
	families, err := clientMetrics.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == "mizzen_agent_pod_addresses" {
			return int(f.GetMetric()[0].GetGauge().GetValue())
		}
	}
	t.Fatal("the agent has no such metric")
	return 0
}
