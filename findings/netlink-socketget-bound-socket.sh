#!/usr/bin/env bash
# Linux 6.18 with github.com/vishvananda/netlink 1.3.1: SocketGet(local, remote) may return another process's socket. It asks
# sock_diag for all states and filters by port. Since Linux 6.8 the kernel also tells of sockets that are bound and neither
# connected nor listening (TCP_BOUND_INACTIVE), and it does not apply the filter of ports to them. SocketGet takes the first
# of up to two answers without comparing it with what was asked for. So one such socket anywhere in the network namespace
# is enough. Before Linux 6.8 nothing is seen.
#
# Output seen on 2026-11-29, Linux 6.18:
#   asked for the connection whose local port is right: true
#   with a bound socket in the same namespace: false, remote port 0
#   unchanged: a socket with another local port is returned
#
# Needs Linux 6.8 or later, root for a network namespace of its own (unshare), and Go. Exits 0 while that holds, 1 when it has
# changed.
set -euo pipefail
dir=$(mktemp -d)
trap 'rm -rf "$dir"' EXIT
cd "$dir"

cat >main.go <<'GO'
package main

import (
	"fmt"
	"net"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

func must(err error) {
	if err != nil {
		fmt.Println(err)
		os.Exit(2)
	}
}

func main() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	c, err := net.Dial("tcp", l.Addr().String())
	must(err)
	local := c.LocalAddr().(*net.TCPAddr)
	ask := func() *netlink.Socket {
		s, err := netlink.SocketGet(local, &net.TCPAddr{IP: local.IP}) // any remote port
		must(err)
		return s
	}
	fmt.Println("asked for the connection whose local port is right:", int(ask().ID.SourcePort) == local.Port)

	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	must(err)
	must(unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}))
	got := ask()
	same := int(got.ID.SourcePort) == local.Port
	fmt.Printf("with a bound socket in the same namespace: %t, remote port %d\n", same, got.ID.DestinationPort)
	if same {
		fmt.Println("changed: the connection itself is returned")
		os.Exit(1)
	}
	fmt.Println("unchanged: a socket with another local port is returned")
}
GO
cat >go.mod <<'MOD'
module finding

go 1.24

require github.com/vishvananda/netlink v1.3.1
MOD
go mod tidy >/dev/null 2>&1
go build -o finding .
unshare --net sh -c 'ip link set lo up 2>/dev/null || true; exec ./finding'
