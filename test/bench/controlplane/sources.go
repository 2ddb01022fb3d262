package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
)

// clientsPerAddress keeps below the control plane's bound of streams for one client address, also while
// proxies reconnect.
const clientsPerAddress = 200

// lend adds addresses for the proxies to the link that leads to the control plane, beside the one it has.
// back takes them away again.
func lend(to string, proxies int) (all []netip.Addr, back func() error, err error) {
	routes, err := netlink.RouteGet(net.ParseIP(to))
	if err != nil || len(routes) == 0 {
		return nil, nil, fmt.Errorf("route to %s: %w", to, err)
	}
	link, err := netlink.LinkByIndex(routes[0].LinkIndex)
	if err != nil {
		return nil, nil, err
	}
	back = func() (err error) {
		for _, a := range all {
			err = errors.Join(err, netlink.AddrDel(link, address(a)))
		}
		return err
	}
	own, _ := netip.AddrFromSlice(routes[0].Src)
	next := own.Unmap().As4()
	next[3] += 100 // away from the node's own
	for range (proxies + clientsPerAddress - 1) / clientsPerAddress {
		next[3]++
		a := netip.AddrFrom4(next)
		if err := netlink.AddrReplace(link, address(a)); err != nil {
			return nil, nil, errors.Join(fmt.Errorf("add %s to %s: %w", a, link.Attrs().Name, err), back())
		}
		all = append(all, a)
	}
	return all, back, nil
}

func address(a netip.Addr) *netlink.Addr {
	return &netlink.Addr{IPNet: &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(32, 32)}}
}
