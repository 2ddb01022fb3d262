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

	"github.com/mizzen-mesh/mizzen/config/fixed"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// forwardEnv makes the test binary a sidecar: it takes connections at the inbound port and makes each anew, in the
// caller's name. Its value is how often it looks before whether callers are seen.
const forwardEnv = "MIZZEN_TEST_FORWARD"

func forward() {
	l, err := net.Listen("tcp", fmt.Sprintf(":%d", fixed.InboundPort))
	if err != nil {
		fmt.Println(err)
		return
	}
	seen := true
	for times, _ := strconv.Atoi(os.Getenv(forwardEnv)); times > 0; times-- {
		for _, ip := range []string{podV4, podV6} {
			seen = seen && CallersSeen(netip.MustParseAddr(ip))
		}
	}
	fmt.Printf("callers seen: %t\n", seen)
	listentest.Serve(l, func(c net.Conn) {
		caller := c.RemoteAddr().(*net.TCPAddr).IP.String()
		_, port, _ := net.SplitHostPort(originalDestination(c.(*net.TCPConn)))
		app, err := dialAt(fixed.CallerPriority, net.JoinHostPort(caller, port))
		if err != nil {
			fmt.Fprint(c, err)
			return
		}
		defer app.Close()
		_, _ = io.Copy(c, app)
	})
}

// forwards starts the sidecar as its own user, without any capability. It is to find that callers are seen, or not.
func (n ns) forwards(want bool) {
	n.t.Helper()
	n.forwardsAfter(1, 0, want)
}

// forwardsAfter has it look so often, with a niceness.
func (n ns) forwardsAfter(looks, nice int, want bool) {
	n.t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{fmt.Sprintf("%s=%d", forwardEnv, looks)}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: fixed.ProxyUID, Gid: fixed.ProxyUID}}
	out, err := cmd.StdoutPipe()
	if err != nil {
		n.t.Fatal(err)
	}
	n.do(func() error { // in a thread of its own, of which the child has the niceness
		return errors.Join(syscall.Setpriority(syscall.PRIO_PROCESS, 0, nice), cmd.Start(), syscall.Setpriority(syscall.PRIO_PROCESS, 0, 0))
	})
	n.t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	var seen bool
	if _, err := fmt.Fscanf(out, "callers seen: %t\n", &seen); err != nil || seen != want {
		n.t.Fatalf("the sidecar sees callers: %t, %v, want %t", seen, err, want)
	}
}

// tellPeer answers each connection with the peer's address, and much behind it.
func (n ns) tellPeer(addr string) {
	n.t.Helper()
	n.answer(addr, func(c net.Conn) { fmt.Fprintf(c, "%s %s", c.RemoteAddr(), strings.Repeat("x", 300_000)) })
}

// answer serves each connection by what it is told, and closes it.
func (n ns) answer(addr string, serve func(net.Conn)) {
	n.t.Helper()
	var l net.Listener
	n.do(func() (err error) { l, err = net.Listen("tcp", addr); return err })
	n.t.Cleanup(func() { l.Close() })
	go listentest.Serve(l, serve)
}

// Where many pods start there is no CPU for the sidecar; it sees callers all the same.
func TestCallersSeenWithoutCPU(t *testing.T) {
	pod, _ := newPod(t)
	pod.do(func() error {
		s := Default()
		s.CapturesOwnCalls = true
		installed, err := Install(s)
		return errors.Join(err, installed.WithoutCallers)
	})
	for range 4 * runtime.NumCPU() {
		busy := exec.Command("sh", "-c", "while :; do :; done")
		if err := busy.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = busy.Process.Kill(); _ = busy.Wait() })
	}
	pod.forwardsAfter(10, 19, true)
}

// ownAddresses are the pod's, or none.
func ownAddresses(all bool) []netip.Addr {
	if !all {
		return nil
	}
	return []netip.Addr{netip.MustParseAddr(podV4), netip.MustParseAddr(podV6)}
}

// The application sees the caller's own address, whoever calls, also when it is called from everywhere at once.
func TestCallerAddresses(t *testing.T) {
	pod, peer := newPod(t)
	pod.do(func() error {
		// Nor does it matter how strictly the kernel looks where packets come from.
		for _, device := range []string{"all", "lo", "eth0"} {
			if err := os.WriteFile("/proc/sys/net/ipv4/conf/"+device+"/rp_filter", []byte("1"), 0); err != nil {
				return err
			}
		}
		s := Default()
		s.CapturesOwnCalls = true
		for range 2 { // it may be done again
			installed, err := Install(s)
			if err := errors.Join(err, installed.WithoutCallers); err != nil {
				return err
			}
		}
		return nil
	})
	pod.forwards(true)
	pod.tellPeer(":8080")
	for name, addr := range map[string]string{"v4": podV4 + ":8080", "v6": "[" + podV6 + "]:8080"} {
		t.Run(name, func(t *testing.T) {
			for range 100 {
				if seen, own := peer.peerOf(addr); seen != own {
					t.Fatalf("the application saw %s, want %s", seen, own)
				}
			}
		})
	}
}

// A pod with several addresses of a family is called as before, and it is said why.
func TestSeveralAddresses(t *testing.T) {
	pod, peer := newPod(t)
	pod.up("lo", "198.51.100.7/32")
	pod.do(func() error {
		s := Default()
		s.CapturesOwnCalls = true
		installed, err := Install(s)
		if want := "the pod has several addresses of one family: " + podV4; installed.WithoutCallers == nil || !strings.Contains(installed.WithoutCallers.Error(), "several addresses") {
			t.Errorf("without callers: %v, want %q", installed.WithoutCallers, want)
		}
		return err
	})
	stop := pod.serve("inbound", "tcp", ":15006")
	pod.serve("app", "tcp", ":8080")
	if got, want := peer.ask(podV4+":8080"), "inbound "+podV4+":8080"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	stop()
	pod.forwards(false)
}

// peerOf calls, and gives which peer the application saw and which address was its own.
func (n ns) peerOf(addr string) (seen, own netip.Addr) {
	n.t.Helper()
	n.do(func() error {
		c, err := net.DialTimeout("tcp", addr, 5*time.Second)
		if err != nil {
			return err
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(20 * time.Second))
		b, err := io.ReadAll(c)
		if err != nil {
			return err
		}
		text, rest, _ := strings.Cut(string(b), " ")
		if len(rest) != 300_000 {
			return fmt.Errorf("got %d bytes, %.80q", len(b), b)
		}
		peer, err := netip.ParseAddrPort(text)
		if err != nil {
			return err
		}
		seen, own = peer.Addr().Unmap(), netip.MustParseAddrPort(c.LocalAddr().String()).Addr()
		return nil
	})
	return seen, own
}

// A client that writes and closes at once: its end comes after a first look at what it wrote. One that has been
// answered ends at once.
func TestEarlyEnds(t *testing.T) {
	s := Default()
	s.CapturesOwnCalls = true
	pod, peer := newPod(t)
	pod.do(func() error { return Apply(Rules(s, Full)) })
	pod.serve("app", "tcp", ":8080")
	var l net.Listener
	pod.do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprintf(":%d", fixed.InboundPort)); return err })
	defer l.Close()
	// The kernel sends again after 200 ms at the least, and then after 200 ms and more. Envoy's look ends after 1 s.
	for size, after := range map[int]time.Duration{1: time.Second, 4: time.Second, 30: 390 * time.Millisecond, 20_000: 390 * time.Millisecond} {
		for _, answered := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, answered %t", size, answered), func(t *testing.T) {
				best := time.Hour
				for range 3 {
					best = min(best, endOf(t, peer, l, size, answered))
				}
				if early := best < after; early != answered {
					t.Errorf("the end came %v after the content", best)
				}
			})
		}
	}
}

// endOf is how long after the last byte the end of a connection comes, of which everything was sent at once.
func endOf(t *testing.T, client ns, l net.Listener, size int, answered bool) time.Duration {
	t.Helper()
	var c net.Conn
	client.do(func() (err error) { c, err = net.Dial("tcp", podV4+":8080"); return err })
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	_ = server.SetDeadline(time.Now().Add(10 * time.Second))
	if answered {
		if _, err := io.WriteString(server, strings.Repeat("hello", 100)); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c, make([]byte, 500)); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := io.WriteString(c, strings.Repeat("x", size)); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(server, make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if n, err := io.Copy(io.Discard, server); n != 0 || err != nil {
		t.Fatalf("%d bytes more, %v", n, err)
	}
	return time.Since(began)
}

// The kubelet's TCP probes close with a linger of a second and wait for the acknowledgement, which comes at once. It comes
// late for who says nothing and is not the kubelet: he may wait for the server to speak first.
func TestSilentEnds(t *testing.T) {
	pod, peer := newPod(t)
	pod.do(func() error {
		s := Default()
		s.CapturesOwnCalls = true
		installed, err := Install(s) // which finds the gateways
		return errors.Join(err, installed.WithoutGateways)
	})
	pod.serve("app", "tcp", ":8080")
	var l net.Listener
	pod.do(func() (err error) { l, err = net.Listen("tcp", fmt.Sprintf(":%d", fixed.InboundPort)); return err })
	defer l.Close()
	for _, tt := range []struct {
		name, from, to, says string
		late                 bool
	}{
		{"the kubelet, v4", peerV4, podV4, "", false},
		{"the kubelet, v6", peerV6, podV6, "", false},
		{"a byte of the kubelet's address, v4", peerV4, podV4, "x", true},
		{"another, v4", farV4, podV4, "", true},
		{"another, v6", farV6, podV6, "", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			best, times := time.Hour, 3
			if tt.late {
				times = 1
			}
			for range times {
				best = min(best, closes(t, peer, l, tt.from, tt.to, tt.says))
			}
			if late := best > 190*time.Millisecond; late != tt.late {
				t.Errorf("the close took %v", best)
			}
		})
	}
}

// closes is how long the close of a connection takes to who waits for the other side's acknowledgement.
func closes(t *testing.T, client ns, l net.Listener, from, to, says string) time.Duration {
	t.Helper()
	var c net.Conn
	client.do(func() (err error) {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: 5 * time.Second}
		c, err = d.Dial("tcp", net.JoinHostPort(to, "8080"))
		return err
	})
	server, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	if _, err := io.WriteString(c, says); err != nil {
		t.Fatal(err)
	}
	if err := c.(*net.TCPConn).SetLinger(1); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	return time.Since(began)
}
