// Package feature tests the data path without a cluster: the real control-plane stages and ADS
// server in this process, a real Envoy with the sidecar's real bootstrap, and the real capture rules,
// all in a network namespace of the test's own.
package feature

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// insideEnv tells the test binary that it already runs in its own namespaces.
const insideEnv = "MIZZEN_FEATURE_INSIDE"

// TestMain runs the tests again as a child in network and mount namespaces of its own.
func TestMain(m *testing.M) {
	if os.Getenv(insideEnv) == "" {
		if os.Getuid() != 0 {
			fmt.Println("test/feature needs root: it makes a network namespace and writes nftables rules in it")
			os.Exit(0)
		}
		os.Exit(runInside())
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "prepare the namespace:", err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func runInside() int {
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// The pods' addresses live on loopback, the Services' lie behind it: to the capture rules the first
// are local and the second are not, as in a pod.
var (
	podAddresses  = []string{"10.244.0.1/32", "10.244.0.5/32", "10.244.0.6/32", "10.244.0.7/32", "fd00:244::5/128"}
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
