// Package node sets up the network namespace that plays the Kubernetes node,
// and takes it down. Nothing of the host changes but for one link with its two
// addresses and the routes to the cluster through it.
package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/mizzen-mesh/mizzen/hack/internal/layout"
	"github.com/mizzen-mesh/mizzen/hack/internal/proc"
)

// Up makes the namespace and the veth pair. Both must not exist (see Down).
func Up(l layout.Layout, n layout.Network) error {
	in := []string{"-n", l.Netns()}
	dual := func(link string, a4, a6 netip.Addr) [][]string {
		return [][]string{
			{"addr", "add", netip.PrefixFrom(a4, n.Link4.Bits()).String(), "dev", link},
			// nodad: usable at once; nobody else is on the link.
			{"addr", "add", netip.PrefixFrom(a6, n.Link6.Bits()).String(), "dev", link, "nodad"},
			{"link", "set", link, "up"},
		}
	}
	steps := [][]string{
		{"netns", "add", l.Netns()},
		{"link", "add", l.HostLink(), "type", "veth", "peer", "name", l.NodeLink(), "netns", l.Netns()},
		append(in, "link", "set", l.NodeLink(), "name", "eth0"),
		append(in, "link", "set", "lo", "up"),
	}
	for _, s := range dual("eth0", n.Node4, n.Node6) {
		steps = append(steps, append(in, s...))
	}
	steps = append(steps, dual(l.HostLink(), n.Host4, n.Host6)...)
	steps = append(steps,
		append(in, "route", "add", "default", "via", n.Host4.String()),
		append(in, "-6", "route", "add", "default", "via", n.Host6.String()),
		// kube-proxy takes what comes for the address of a load balancer and for one of its ports. The rest would go
		// back to the host, by the default route.
		append(in, "route", "add", "unreachable", n.LoadBalancers4.String()),
		// Tests on the host reach pods, ClusterIPs and load balancers through the node.
		[]string{"route", "add", n.Block4.String(), "via", n.Node4.String()},
		[]string{"-6", "route", "add", n.Block6.String(), "via", n.Node6.String()},
	)
	for _, s := range steps {
		if _, err := proc.Run("ip", s...); err != nil {
			return fmt.Errorf("node network: %w", err)
		}
	}
	return sysctls(l)
}

// sysctls sets what a node needs, in its namespace only.
func sysctls(l layout.Layout) error {
	var script strings.Builder
	for _, s := range []string{
		"net/ipv4/ip_forward=1",
		"net/ipv6/conf/all/forwarding=1",
		// Links that come later (the bridge, pods) have their IPv6 addresses at once.
		"net/ipv6/conf/default/accept_dad=0",
		// Pods are on one bridge: without this, the answer of a pod reached
		// through a ClusterIP goes straight back, with the wrong source address.
		"net/bridge/bridge-nf-call-iptables=1",
		"net/bridge/bridge-nf-call-ip6tables=1",
		// Many tests, many short connections; none on a port on which a component listens (10248 and on).
		"net/ipv4/ip_local_port_range=11000 65000",
	} {
		key, value, _ := strings.Cut(s, "=")
		fmt.Fprintf(&script, "echo '%s' > /proc/sys/%s || exit 1\n", value, key)
	}
	_, err := proc.RunInput(script.String(), "nsenter", "--net="+l.NetnsPath(), "sh", "-e")
	if err != nil {
		return fmt.Errorf("node sysctls (is br_netfilter built in or loaded?): %w", err)
	}
	return nil
}

// Down removes what Up made, as far as it is there.
func Down(l layout.Layout) error {
	var errs []error
	// The link goes first: a namespace lives on while a process is in it, and
	// its routes would be in the way of the next cluster.
	if _, err := os.Stat("/sys/class/net/" + l.HostLink()); err == nil {
		_, err := proc.Run("ip", "link", "del", l.HostLink())
		errs = append(errs, err)
	}
	if _, err := os.Stat(l.NetnsPath()); err == nil {
		_, err := proc.Run("ip", "netns", "del", l.Netns())
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// ClaimNetwork picks an address block that no other cluster and no route of
// the host uses, and claims it in a file below RunBase, named by the slot and
// holding the checkout's path. The caller holds no lock: the file is created
// exclusively. A claim of ours, left by a killed run, is used again.
func ClaimNetwork(l layout.Layout) (layout.Network, error) {
	dir := filepath.Join(layout.RunBase, "slots")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return layout.Network{}, err
	}
	routes, err := hostRoutes()
	if err != nil {
		return layout.Network{}, err
	}
	for i := range layout.Slots {
		n := layout.NewNetwork((l.Slot() + i) % layout.Slots)
		if _, taken := n.Conflict(routes); taken {
			continue
		}
		ours, err := claim(filepath.Join(dir, strconv.Itoa(n.Slot)), l.Root)
		if err != nil || ours {
			return n, err
		}
	}
	return layout.Network{}, fmt.Errorf("all %d address blocks are taken, see %s and ip route", layout.Slots, dir)
}

func claim(path, owner string) (bool, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o644)
	if err == nil {
		_, err = f.WriteString(owner)
		return true, errors.Join(err, f.Close())
	}
	if !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	if string(data) == owner {
		return true, nil
	}
	// The checkout was deleted together with its state: nobody will come back.
	if _, err := os.Stat(filepath.Join(string(data), ".cluster")); errors.Is(err, fs.ErrNotExist) && len(data) > 0 {
		other := layout.New(string(data))
		if _, err := os.Stat(other.NetnsPath()); errors.Is(err, fs.ErrNotExist) {
			return true, os.WriteFile(path, []byte(owner), 0o644)
		}
	}
	return false, nil
}

// ReleaseNetwork gives all claims of the checkout back.
func ReleaseNetwork(l layout.Layout) error {
	files, err := filepath.Glob(filepath.Join(layout.RunBase, "slots", "*"))
	for _, f := range files {
		if data, rerr := os.ReadFile(f); rerr == nil && string(data) == l.Root {
			err = errors.Join(err, os.Remove(f))
		}
	}
	return err
}

func hostRoutes() ([]netip.Prefix, error) {
	var all []netip.Prefix
	for _, family := range []string{"-4", "-6"} {
		out, err := proc.Run("ip", family, "-j", "route", "show", "table", "all")
		if err != nil {
			return nil, err
		}
		routes, err := parseRoutes(out)
		if err != nil {
			return nil, err
		}
		all = append(all, routes...)
	}
	return all, nil
}

// parseRoutes reads the destinations in the output of ip -j route.
func parseRoutes(out string) ([]netip.Prefix, error) {
	var routes []struct{ Dst string }
	if strings.TrimSpace(out) == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(out), &routes); err != nil {
		return nil, fmt.Errorf("ip -j route: %w", err)
	}
	var all []netip.Prefix
	for _, r := range routes {
		if p, err := netip.ParsePrefix(r.Dst); err == nil {
			all = append(all, p)
		} else if a, err := netip.ParseAddr(r.Dst); err == nil {
			all = append(all, netip.PrefixFrom(a, a.BitLen()))
		} // else "default"
	}
	return all, nil
}
