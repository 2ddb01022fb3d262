// Package socketlb recognises socket load balancing: a kube-proxy replacement that exchanges a Service's address for that
// of a pod inside connect(). A sidecar then sees one pod's address in place of the Service's, and has nothing to balance.
// Cilium and Calico do so with BPF programs at cgroup/connect4 and connect6. It may import no other package of this module.
package socketlb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// tries is how often another connection is looked at because the kernel told of several with one local address and port, or
// of none: it makes its list while connections come and go.
const tries = 5

// Translates reports whether this process's connection to the "<host>:<port>" of a Service gets another destination
// within the socket. It begins a connection and gives it up at once, whether or not anybody answers. What comes later on
// the way, as kube-proxy's translation, is no part of the socket. Neither is what getpeername says, which Cilium
// translates back: the kernel's own view is asked for (sock_diag(7)), which takes no privilege.
func Translates(ctx context.Context, address string) (bool, error) {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return false, err
	}
	number, err := net.DefaultResolver.LookupPort(ctx, "tcp", port)
	if err != nil {
		return false, err
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return false, err
	}
	dialled := netip.AddrPortFrom(ips[0].Unmap(), uint16(number))
	for range tries {
		var reached netip.AddrPort
		if reached, err = destination(dialled); err == nil {
			return reached != dialled, nil
		}
	}
	return false, fmt.Errorf("where a connection to %s goes: %w", dialled, err)
}

// destination is where a connection to the address goes, as the kernel has it.
func destination(dialled netip.AddrPort) (netip.AddrPort, error) {
	fd, err := unix.Socket(family(dialled.Addr()), unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return netip.AddrPort{}, err
	}
	defer unix.Close(fd)
	if err := unix.Connect(fd, sockaddr(dialled)); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return netip.AddrPort{}, err
	}
	local, err := localAddress(fd)
	if err != nil {
		return netip.AddrPort{}, err
	}
	// netlink.SocketGet may return another socket: see findings/netlink-socketget-bound-socket.sh.
	sockets, err := netlink.SocketDiagTCP(uint8(family(dialled.Addr())))
	if err != nil {
		return netip.AddrPort{}, err
	}
	var to []netip.AddrPort
	for _, s := range sockets {
		if addrPort(s.ID.Source, s.ID.SourcePort) == local && s.ID.DestinationPort != 0 {
			to = append(to, addrPort(s.ID.Destination, s.ID.DestinationPort))
		}
	}
	if len(to) != 1 {
		return netip.AddrPort{}, fmt.Errorf("the kernel tells of %d connections from %s", len(to), local)
	}
	return to[0], nil
}

func addrPort(ip net.IP, port uint16) netip.AddrPort {
	addr, _ := netip.AddrFromSlice(ip)
	return netip.AddrPortFrom(addr.Unmap(), port)
}

func family(ip netip.Addr) int {
	if ip.Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

func localAddress(fd int) (netip.AddrPort, error) {
	switch a, err := unix.Getsockname(fd); a := a.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(a.Addr), uint16(a.Port)), nil
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr), uint16(a.Port)), nil
	default:
		return netip.AddrPort{}, fmt.Errorf("getsockname: %w", err)
	}
}
