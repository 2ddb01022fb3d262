package world

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/internal/capture"
)

// The addresses of the two pods. ServiceCIDR lies behind the client's default route.
const (
	ClientIP    = "10.88.0.1"
	ServerIP    = "10.88.0.2"
	ClientIPv6  = "fd00:88::1"
	ServerIPv6  = "fd00:88::2"
	ServiceCIDR = "10.96.0.0/12"
)

// dirEnv tells the program that it already runs in namespaces of its own, and where its files go.
const dirEnv = "MIZZEN_WORLD"

// Main runs f in network and mount namespaces of the program's own, by starting the program again
// in them, and exits.
func Main(f func() error) {
	run := f
	if !Inside() {
		run = again
	}
	if err := run(); err != nil {
		if exit := (*exec.ExitError)(nil); errors.As(err, &exit) {
			os.Exit(exit.ExitCode()) // the child has said why
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// Inside tells whether the program runs in namespaces of its own, because Main has started it again.
func Inside() bool { return os.Getenv(dirEnv) != "" }

func again() error {
	if os.Getuid() != 0 {
		return fmt.Errorf("needs root: it makes network namespaces and writes nftables rules in them")
	}
	dir, err := os.MkdirTemp("/tmp", "mizzen-world-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := os.Chmod(dir, 0o755); err != nil { // the sidecar's user goes through it
		return err
	}
	signal.Notify(make(chan os.Signal, 1), os.Interrupt)  // ends the child; the directory is still to be removed
	runtime.LockOSThread()                                // Pdeathsig is about the thread: https://go.dev/issue/27505
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...) //nolint:noctx // a signal to this process ends it
	cmd.Env = append(os.Environ(), dirEnv+"="+dir)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS,
		Pdeathsig:  syscall.SIGKILL,
	}
	return cmd.Run()
}

// Pods are the namespaces of two pods, joined by a veth pair: the client's is the program's own.
type Pods struct{ Client, Server NS }

// NS is a network namespace.
type NS struct{ handle netns.NsHandle }

// NewPods makes both, with capture rules that leave the given ports alone on both sides.
func NewPods(excluded ...uint16) (*Pods, error) {
	// A bind mount must not reach the host's mount namespace.
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return nil, fmt.Errorf("make mounts private: %w", err)
	}
	client, err := netns.Get()
	if err != nil {
		return nil, err
	}
	server, err := newNS(client)
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	p := &Pods{Client: NS{client}, Server: NS{server}}
	err = netlink.LinkAdd(&netlink.Veth{
		LinkAttrs: netlink.LinkAttrs{Name: "eth0"}, PeerName: "eth0", PeerNamespace: netlink.NsFd(server),
	})
	if err != nil {
		return nil, fmt.Errorf("join the namespaces: %w", err)
	}
	settings := capture.Default()
	settings.CapturesOwnCalls = true
	settings.ExcludeInboundPorts, settings.ExcludeOutboundPorts = excluded, excluded
	for _, pod := range []struct {
		ns             NS
		ip, ipv6, peer string
	}{{p.Client, ClientIP, ClientIPv6, ServerIP}, {p.Server, ServerIP, ServerIPv6, ClientIP}} {
		if err := pod.ns.Do(func() error { return setUp(pod.ip, pod.ipv6, pod.peer, settings) }); err != nil {
			return nil, fmt.Errorf("set up the pod %s: %w", pod.ip, err)
		}
	}
	return p, nil
}

func newNS(back netns.NsHandle) (netns.NsHandle, error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	handle, err := netns.New()
	if err != nil {
		return handle, err
	}
	return handle, netns.Set(back)
}

// Do runs f on a thread that is in the namespace; sockets and processes that f makes stay there.
func (n NS) Do(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	back, err := netns.Get()
	if err != nil {
		return err
	}
	defer back.Close()
	if err := netns.Set(n.handle); err != nil {
		return err
	}
	ferr := f()
	if err := netns.Set(back); err != nil {
		panic(err) // the thread would go on in the wrong namespace
	}
	return ferr
}

// Listen gives a TCP listener in the namespace.
func (n NS) Listen(addr string) (net.Listener, error) {
	var l net.Listener
	err := n.Do(func() (err error) {
		l, err = net.Listen("tcp", addr) //nolint:noctx // an address needs no wait
		return err
	})
	return l, err
}

// AddAddress gives the pod one more.
func (n NS) AddAddress(cidr string) error {
	return n.Do(func() error { return linkUp("eth0", []string{cidr}) })
}

// setUp gives the pod its addresses, its default route and its capture rules.
func setUp(ip, ipv6, peer string, settings capture.Settings) error {
	for name, cidrs := range map[string][]string{"lo": nil, "eth0": {ip + "/24", ipv6 + "/64"}} {
		if err := linkUp(name, cidrs); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	eth0, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	if err := netlink.RouteAdd(&netlink.Route{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP(peer)}); err != nil {
		return fmt.Errorf("default route by %s: %w", peer, err)
	}
	installed, err := capture.Install(settings)
	return errors.Join(err, installed.WithoutCallers)
}

func linkUp(name string, cidrs []string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return err
	}
	for _, cidr := range cidrs {
		addr, err := netlink.ParseAddr(cidr)
		if err != nil {
			return err
		}
		addr.Flags = unix.IFA_F_NODAD // usable at once
		if err := netlink.AddrAdd(link, addr); err != nil {
			return err
		}
	}
	return netlink.LinkSetUp(link)
}
