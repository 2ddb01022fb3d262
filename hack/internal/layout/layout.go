// Package layout derives every name, path and address of one embedded cluster
// from the path of the checkout it belongs to, so that clusters of several
// checkouts share a machine without sharing anything else.
//
// The package is pure, except for ResolveRoot.
package layout

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
)

const (
	// RunBase holds sockets and locks. It is short because the path of a Unix
	// socket has at most 107 bytes, and a tmpfs, so a reboot empties it.
	RunBase = "/run/mizzen"
	// NodeName is the Kubernetes name of the only node.
	NodeName = "mizzen-node"
	// ClusterDomain is the DNS suffix of Services.
	ClusterDomain = "cluster.local"
	// OutsideName resolves, in pods, to the host's end of the veth pair: a
	// destination outside of the cluster.
	OutsideName = "outside.mizzen.test"
)

// Layout is what one cluster owns on the machine.
type Layout struct {
	Root string // absolute path of the checkout, symlinks resolved
	ID   string // 8 hex digits, derived from Root
}

// New returns the layout of the checkout at root.
func New(root string) Layout {
	sum := sha256.Sum256([]byte(filepath.Clean(root)))
	return Layout{Root: filepath.Clean(root), ID: hex.EncodeToString(sum[:4])}
}

// ResolveRoot finds the checkout that dir is in: the nearest directory with a
// hack/kube/go.mod.
func ResolveRoot(dir string) (string, error) {
	abs, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if abs, err = filepath.EvalSymlinks(abs); err != nil {
		return "", err
	}
	for d := abs; ; d = filepath.Dir(d) {
		if _, err := os.Stat(filepath.Join(d, "hack", "kube", "go.mod")); err == nil {
			return d, nil
		}
		if d == filepath.Dir(d) {
			return "", fmt.Errorf("%s is not inside a checkout of mizzen (no hack/kube/go.mod above it)", abs)
		}
	}
}

// Names in the kernel. Link names have at most 15 bytes.

func (l Layout) Netns() string     { return "mizzen-" + l.ID }
func (l Layout) NetnsPath() string { return "/run/netns/" + l.Netns() }
func (l Layout) HostLink() string  { return "mz" + l.ID + "h" }
func (l Layout) NodeLink() string  { return "mz" + l.ID + "n" }
func (l Layout) Cgroup() string    { return "mizzen-" + l.ID }

// Paths.

func (l Layout) State(elem ...string) string {
	return filepath.Join(append([]string{l.Root, ".cluster"}, elem...)...)
}
func (l Layout) Build(elem ...string) string {
	return filepath.Join(append([]string{l.Root, ".build"}, elem...)...)
}
func (l Layout) Hack(elem ...string) string {
	return filepath.Join(append([]string{l.Root, "hack"}, elem...)...)
}
func (l Layout) Run(elem ...string) string {
	return filepath.Join(append([]string{RunBase, l.ID}, elem...)...)
}
func (l Layout) Lock() string             { return filepath.Join(RunBase, l.ID+".lock") }
func (l Layout) Kubeconfig() string       { return l.State("kubeconfig") }
func (l Layout) LogFile(c string) string  { return l.State("log", c+".log") }
func (l Layout) ContainerdSocket() string { return l.Run("containerd.sock") }

// Slots is how many clusters fit on one machine.
const Slots = 64

// Slot is the first choice of address block; Layouts may collide, so the
// caller probes upwards from here.
func (l Layout) Slot() int {
	sum := sha256.Sum256([]byte(l.Root))
	return int(sum[31]) % Slots
}

// Network is the address plan of one cluster.
type Network struct {
	Slot                       int
	Block4, Block6             netip.Prefix // everything below lies in these
	Pods4, Pods6               netip.Prefix
	Services4, Services6       netip.Prefix
	Link4, Link6               netip.Prefix // the veth pair
	Host4, Host6, Node4, Node6 netip.Addr
	API4, API6, DNS4, DNS6     netip.Addr   // ClusterIPs
	LoadBalancers4             netip.Prefix // addresses of Services of type LoadBalancer
}

// NewNetwork returns the plan of a cluster in 10.(128+slot).0.0/16 and fd6d:7a00:slot::/48. Pod ranges hold 16,000
// addresses: the scale tests create thousands of pods and Services.
func NewNetwork(slot int) Network {
	p4 := func(third, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(128 + slot), byte(third), 0}), bits)
	}
	p6 := func(subnet byte, bits int) netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom16([16]byte{0xfd, 0x6d, 0x7a, 0, 0, byte(slot), 0, subnet}), bits)
	}
	n := Network{
		Slot:   slot,
		Block4: p4(0, 16), Block6: p6(0, 48),
		Pods4: p4(0, 18), Pods6: p6(1, 64),
		// An IPv6 service range may have at most 20 host bits.
		Services4: p4(64, 18), Services6: p6(2, 112),
		Link4: p4(128, 24), Link6: p6(3, 64),
		LoadBalancers4: p4(192, 24),
	}
	n.Host4, n.Host6 = Nth(n.Link4, 1), Nth(n.Link6, 1)
	n.Node4, n.Node6 = Nth(n.Link4, 2), Nth(n.Link6, 2)
	n.API4, n.API6 = Nth(n.Services4, 1), Nth(n.Services6, 1)
	n.DNS4, n.DNS6 = Nth(n.Services4, 10), Nth(n.Services6, 10)
	return n
}

// Nth returns the address i (< 256) steps after the prefix's first.
func Nth(p netip.Prefix, i int) netip.Addr {
	b := p.Addr().AsSlice()
	b[len(b)-1] += byte(i)
	a, _ := netip.AddrFromSlice(b)
	return a
}

// Conflict returns the first of routes (destinations in the host's routing table) that is within the network's blocks.
// A wider route, such as 10.0.0.0/8, is no conflict: the cluster's own routes are more specific.
func (n Network) Conflict(routes []netip.Prefix) (netip.Prefix, bool) {
	for _, r := range routes {
		for _, b := range []netip.Prefix{n.Block4, n.Block6} {
			if r.Bits() >= b.Bits() && b.Contains(r.Addr()) {
				return r, true
			}
		}
	}
	return netip.Prefix{}, false
}

// APIServer is the URL at which the host and the node reach the API server.
func (n Network) APIServer() string { return fmt.Sprintf("https://%s:6443", n.Node4) }
