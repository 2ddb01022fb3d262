package world

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// gateway is every pod's, an address of the node's end of each link.
const gateway = "169.254.1.1"

// Node is the program's own network namespace, which routes between pods, each in a namespace of its own.
type Node struct {
	handle netns.NsHandle
	links  int
}

// NewNode makes the program's namespace a node with this address.
func NewNode(address netip.Addr) (*Node, error) {
	// A bind mount must not reach the host's mount namespace.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	handle, err := netns.Get()
	if err != nil {
		return nil, err
	}
	if err := linkUp("lo", []string{netip.PrefixFrom(address, address.BitLen()).String()}); err != nil {
		return nil, fmt.Errorf("lo: %w", err)
	}
	// /proc shows the namespace of the thread, and all threads are in it by now.
	return &Node{handle: handle}, os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o644)
}

// AddPod makes the namespace of a pod.
func (n *Node) AddPod(address netip.Addr) (NS, error) {
	handle, err := newNS(n.handle)
	if err != nil {
		return NS{}, fmt.Errorf("make a network namespace: %w", err)
	}
	n.links++
	name := fmt.Sprintf("pod%d", n.links)
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: name}, PeerName: "eth0", PeerNamespace: netlink.NsFd(handle),
	})
	if err != nil {
		return NS{}, fmt.Errorf("join the namespaces: %w", err)
	}
	if err := linkUp(name, []string{gateway + "/32"}); err != nil {
		return NS{}, fmt.Errorf("%s: %w", name, err)
	}
	pod := NS{handle}
	if err := pod.Do(func() error { return setUpPod(address) }); err != nil {
		return pod, fmt.Errorf("set up the pod %s: %w", address, err)
	}
	return pod, routeTo(name, &netlink.Route{Dst: single(address)})
}

func setUpPod(address netip.Addr) error {
	if err := linkUp("lo", nil); err != nil {
		return fmt.Errorf("lo: %w", err)
	}
	if err := linkUp("eth0", []string{single(address).String()}); err != nil {
		return fmt.Errorf("eth0: %w", err)
	}
	if err := routeTo("eth0", &netlink.Route{Dst: single(netip.MustParseAddr(gateway)), Scope: netlink.SCOPE_LINK}); err != nil {
		return err
	}
	return routeTo("eth0", &netlink.Route{Gw: net.ParseIP(gateway)})
}

func routeTo(link string, route *netlink.Route) error {
	l, err := netlink.LinkByName(link)
	if err != nil {
		return err
	}
	route.LinkIndex = l.Attrs().Index
	if err := netlink.RouteAdd(route); err != nil {
		return fmt.Errorf("route %s: %w", route, err)
	}
	return nil
}

func single(address netip.Addr) *net.IPNet {
	return &net.IPNet{IP: address.AsSlice(), Mask: net.CIDRMask(address.BitLen(), address.BitLen())}
}

// Cut takes a pod off the network, as if its node were gone.
func (n NS) Cut() error {
	return n.Do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return netlink.LinkSetDown(link)
	})
}

// Balance does for each Service address what kube-proxy does: connections go to the pod.
func (n *Node) Balance(services map[netip.Addr]netip.Addr) error {
	conn, err := nftables.New()
	if err != nil {
		return err
	}
	table := conn.AddTable(&nftables.Table{Family: nftables.TableFamilyIPv4, Name: "services"})
	chain := conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: table, Type: nftables.ChainTypeNAT, Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityNATDest,
	})
	for service, pod := range services {
		conn.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4}, // the destination
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: service.AsSlice()},
			&expr.Immediate{Register: 1, Data: pod.AsSlice()},
			&expr.NAT{Type: expr.NATTypeDestNAT, Family: unix.NFPROTO_IPV4, RegAddrMin: 1},
		}})
	}
	return conn.Flush()
}
