// Package feature tests the data path without a cluster: the real control plane in this process, fed with Kubernetes objects
// (internal/xdstest), a real Envoy with the sidecar's real bootstrap and certificate, and the real capture rules, all in a
// network namespace of the test's own. Identities are on, as by default.
package feature

import (
	"errors"
	"fmt"
	"net"
	"os"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/capture"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// TestMain runs the tests in network and mount namespaces of their own.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Println("test/feature needs root: it makes a network namespace and writes nftables rules in it")
		return
	}
	world.Main(func() error {
		if err := prepare(); err != nil {
			return fmt.Errorf("prepare the namespace: %w", err)
		}
		if m.Run() != 0 {
			return errors.New("failed")
		}
		return nil
	})
}

// The pods' addresses live on loopback, the Services' lie behind it: to the capture rules the first
// are local and the second are not, as in a pod.
var (
	podAddresses  = []string{"10.244.0.1/32", "10.244.0.5/32", "10.244.0.6/32", "10.244.0.7/32", "fd00:244::1/128", "fd00:244::5/128"}
	serviceRanges = []string{"10.96.0.0/16", "fd00:96::/112"}
)

func prepare() error {
	// A bind mount below must not reach the host's mount namespace.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return err
	}
	for _, text := range podAddresses {
		addr, err := netlink.ParseAddr(text)
		if err != nil {
			return err
		}
		if err := netlink.AddrAdd(lo, addr); err != nil {
			return fmt.Errorf("add %s: %w", text, err)
		}
	}
	for _, text := range serviceRanges {
		_, dst, err := net.ParseCIDR(text)
		if err != nil {
			return err
		}
		if err := netlink.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst}); err != nil {
			return fmt.Errorf("route %s: %w", text, err)
		}
	}
	_, err = capture.Install(capture.Default())
	return err
}
