package capture

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// The addresses of the two sides, and one behind the peer that the pod reaches over its default route.
const (
	podV4, peerV4, farV4 = "10.88.0.1", "10.88.0.2", "192.0.2.10"
	podV6, peerV6, farV6 = "fd00:88::1", "fd00:88::2", "2001:db8::10"
)

// dialEnv makes the test binary a client: it dials the address, prints the reply and ends. priorityEnv is
// the SO_PRIORITY of its socket.
const (
	dialEnv     = "MIZZEN_TEST_DIAL"
	priorityEnv = "MIZZEN_TEST_PRIORITY"
)

func TestMain(m *testing.M) {
	if os.Getenv(forwardEnv) != "" {
		forward()
		return
	}
	if end := os.Getenv(endEnv); end != "" {
		endOne(end)
		return
	}
	if os.Getenv(trialEnv) != "" {
		trial()
		return
	}
	if addr := os.Getenv(dialEnv); addr != "" {
		priority, _ := strconv.Atoi(os.Getenv(priorityEnv))
		fmt.Print(askAt(priority, addr))
		return
	}
	os.Exit(m.Run())
}

// ns is a network namespace of this test.
type ns struct {
	t      *testing.T
	handle netns.NsHandle
}

// newPod gives the namespaces of a pod and of a peer outside, joined by a veth pair.
func newPod(t *testing.T) (pod, peer ns) {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("needs root: makes network namespaces and writes nftables rules in them")
	}
	pod, peer = newNS(t), newNS(t)
	pod.do(func() error {
		return netlink.LinkAdd(&netlink.Veth{
			LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(peer.handle),
		})
	})
	pod.up("eth0", podV4+"/24", podV6+"/64")
	peer.up("eth0", peerV4+"/24", peerV6+"/64")
	peer.up("lo", farV4+"/32", farV6+"/128")
	pod.up("lo")
	pod.do(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		for _, gateway := range []string{peerV4, peerV6} {
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Gw: net.ParseIP(gateway)}
			if err := netlink.RouteAdd(route); err != nil {
				return fmt.Errorf("default route by %s: %w", gateway, err)
			}
		}
		return nil
	})
	return pod, peer
}

func newNS(t *testing.T) ns {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netns.Get()
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	handle, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { handle.Close() })
	if err := netns.Set(host); err != nil {
		t.Fatal(err)
	}
	return ns{t, handle}
}

// do runs f on a thread that is in the namespace; sockets made by f stay there.
func (n ns) do(f func() error) {
	n.t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	host, err := netns.Get()
	if err != nil {
		n.t.Fatal(err)
	}
	defer host.Close()
	if err := netns.Set(n.handle); err != nil {
		n.t.Fatal(err)
	}
	ferr := f()
	if err := netns.Set(host); err != nil {
		panic(err) // the thread would go on in the wrong namespace
	}
	if ferr != nil {
		n.t.Fatal(ferr)
	}
}

func (n ns) up(device string, addresses ...string) {
	n.t.Helper()
	n.do(func() error {
		link, err := netlink.LinkByName(device)
		if err != nil {
			return err
		}
		if err := netlink.LinkSetUp(link); err != nil {
			return err
		}
		for _, a := range addresses {
			addr, err := netlink.ParseAddr(a)
			if err != nil {
				return err
			}
			addr.Flags = unix.IFA_F_NODAD // usable at once
			if err := netlink.AddrAdd(link, addr); err != nil {
				return fmt.Errorf("address %s: %w", a, err)
			}
		}
		return nil
	})
}

// serve answers every connection with its name and the original destination, for example
// "app 10.88.0.1:8080", until it is stopped or the test ends.
func (n ns) serve(name, network, addr string) (stop func() error) {
	n.t.Helper()
	var l net.Listener
	n.do(func() (err error) {
		l, err = net.Listen(network, addr)
		return err
	})
	n.t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			fmt.Fprintf(c, "%s %s", name, originalDestination(c.(*net.TCPConn)))
			c.Close()
		}
	}()
	return l.Close
}

// ask dials from within the namespace and gives the server's answer or a word for the failure.
func (n ns) ask(addr string) (answer string) {
	n.t.Helper()
	n.do(func() error { answer = ask(addr); return nil })
	return answer
}

// askAs does the same as another user.
func (n ns) askAs(uid uint32, addr string) string {
	n.t.Helper()
	return n.askWith(uid, 0, addr)
}

// askWith does the same over a socket with an SO_PRIORITY.
func (n ns) askWith(uid uint32, priority int, addr string) (answer string) {
	n.t.Helper()
	n.do(func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{dialEnv + "=" + addr, priorityEnv + "=" + strconv.Itoa(priority)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		answer = string(out)
		return err
	})
	return answer
}

func ask(addr string) string { return askAt(0, addr) }

func dialAt(priority int, addr string) (net.Conn, error) {
	dialer := &net.Dialer{Timeout: 2 * time.Second, Control: func(_, _ string, c syscall.RawConn) error { return setPriority(c, priority) }}
	return dialer.Dial("tcp", addr)
}

func askAt(priority int, addr string) string {
	c, err := dialAt(priority, addr)
	if err != nil {
		return failure(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err.Error()
	}
	answer, err := io.ReadAll(c)
	if err != nil {
		return failure(err)
	}
	return string(answer)
}

func failure(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, unix.ECONNREFUSED):
		return "refused"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	}
	return err.Error()
}

// originalDestination is what Envoy's original_dst listener filter does. SO_ORIGINAL_DST has the same
// number in both families; the two getters are chosen for the size of what they read.
func originalDestination(c *net.TCPConn) string {
	raw, err := c.SyscallConn()
	if err != nil {
		return err.Error()
	}
	v6 := strings.Contains(c.LocalAddr().String(), "[")
	var dst netip.AddrPort
	cerr := raw.Control(func(fd uintptr) {
		if v6 {
			var info *unix.IPv6MTUInfo
			if info, err = unix.GetsockoptIPv6MTUInfo(int(fd), unix.SOL_IPV6, unix.SO_ORIGINAL_DST); err == nil {
				dst = netip.AddrPortFrom(netip.AddrFrom16(info.Addr.Addr), swap(info.Addr.Port))
			}
			return
		}
		var m *unix.IPv6Mreq
		if m, err = unix.GetsockoptIPv6Mreq(int(fd), unix.SOL_IP, unix.SO_ORIGINAL_DST); err == nil {
			b := m.Multiaddr
			dst = netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3]))
		}
	})
	if err := errors.Join(err, cerr); err != nil {
		// No connection tracking entry with NAT: the connection came as it is.
		return c.LocalAddr().String()
	}
	return dst.String()
}

func swap(port uint16) uint16 { return port<<8 | port>>8 }
