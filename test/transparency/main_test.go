package transparency

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"

	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// TestMain runs the tests in network and mount namespaces of their own.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("test/transparency needs root: it makes network namespaces and writes nftables rules in them")
		if os.Getenv("CI") == "true" {
			os.Exit(1)
		}
		return
	}
	world.Main(func() error {
		if m.Run() != 0 {
			return errors.New("failed")
		}
		return nil
	})
}

// start makes the pods, the control plane and the sidecars.
func start(t *testing.T) *network {
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
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	dir, err := os.MkdirTemp(os.Getenv("MIZZEN_WORLD"), "transparency-")
	must(err)
	must(os.Chmod(dir, 0o755))
	i, err := buildImage(dir)
	must(err)
	node, err := world.NewNode(netip.MustParseAddr(nodeAddress))
	must(err)
	n := &network{pods: map[string]world.NS{}, light: make(chan struct{}, 100), heavy: make(chan struct{}, 24)}
	for name, address := range podAddresses {
		n.pods[name], err = node.AddPod(address)
		must(err)
	}
	services := map[netip.Addr]netip.Addr{}
	for _, l := range all() {
		services[l.serviceIP()] = podAddresses[l.to]
	}
	must(node.Balance(services))

	cfg, err := meshConfig()
	must(err)
	pods, err := runControlPlane(t, cfg)
	must(err)
	must(n.listen())
	for _, name := range meshed {
		must(startSidecar(ctx, dir, n.pods[name], pods[name], i))
	}
	return n
}
