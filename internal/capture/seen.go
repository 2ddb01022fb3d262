package capture

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// Addresses that nobody has (RFC 5737, RFC 3849).
var (
	nobodyIPv4 = netip.MustParseAddr("192.0.2.1")
	nobodyIPv6 = netip.MustParseAddr("2001:db8::1")
)

// A trial fails after this number of checks at this interval. A connection within the pod takes less than a
// millisecond, but nodes that start pods are often out of CPU, so elapsed time alone proves nothing. The trial also
// lasts long enough for the kernel's second attempt, a second after the first.
const seenLooks, seenPause, seenLeast = 30, 10 * time.Millisecond, 1500 * time.Millisecond

// CallersSeen reports whether the rules show the application the caller's address. It tries a connection from an unused
// address to a port of the pod. It must be called as the sidecar's user; ip is an address of the pod. Without the rules
// the connection goes nowhere.
func CallersSeen(ip netip.Addr) bool {
	l, err := net.Listen("tcp", netip.AddrPortFrom(ip, 0).String()) //nolint:noctx // an address needs no wait
	if err != nil {
		return false
	}
	defer l.Close()
	nobody := nobodyIPv4
	if ip.Unmap().Is6() {
		nobody = nobodyIPv6
	}
	ctx, cancel := context.WithCancel(context.Background())
	dialed := make(chan net.Conn, 1)
	go func() {
		defer close(dialed)
		d := net.Dialer{Control: CallerControl}
		if c, err := d.DialContext(ctx, "tcp", net.JoinHostPort(nobody.String(), strconv.Itoa(l.Addr().(*net.TCPAddr).Port))); err == nil {
			dialed <- c
		}
	}()
	defer func() {
		cancel()
		if c, ok := <-dialed; ok {
			c.Close()
		}
	}()
	began := time.Now()
	for looks := 0; looks < seenLooks || time.Since(began) < seenLeast; looks++ {
		select {
		case c, ok := <-dialed:
			if !ok {
				return false
			}
			defer c.Close()
			accepted, err := l.Accept() // the connection is there, because the handshake is complete
			if err != nil {
				return false
			}
			defer accepted.Close()
			peer, err := netip.ParseAddrPort(accepted.RemoteAddr().String())
			return err == nil && peer.Addr().Unmap() == nobody
		case <-time.After(seenPause):
		}
	}
	return false
}

// CallerControl is for a net.Dialer: where CallersSeen, a connection to a caller's address with one of the pod's ports is
// one to the application, in the caller's name.
func CallerControl(_, _ string, c syscall.RawConn) error {
	return setPriority(c, fixed.CallerPriority)
}

func setPriority(c syscall.RawConn, priority int) error {
	var err error
	cerr := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PRIORITY, priority) })
	return errors.Join(cerr, err)
}
