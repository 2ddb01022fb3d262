package capture

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// endEnv makes the test binary an agent that ends the connection of this caller.
const endEnv = "MIZZEN_TEST_END"

func endOne(caller string) { fmt.Print(EndConnection(netip.MustParseAddrPort(caller))) }

// end has a user end a caller's connection, and gives what came out.
func (n ns) end(uid uint32, caller netip.AddrPort) (answer string) {
	n.t.Helper()
	n.do(func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{endEnv + "=" + caller.String()}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		answer = string(out)
		return err
	})
	return answer
}

// newPodWithIdentity is newPod with the rules of a mesh with identities.
func newPodWithIdentity(t *testing.T) (pod, peer ns) {
	t.Helper()
	pod, peer = newPod(t)
	s := Default()
	s.CapturesOwnCalls = true
	pod.do(func() error { _, err := Install(s); return err })
	return pod, peer
}

// keepAlive has the kernel ask after a second of silence, as Envoy's listener does later.
func keepAlive(c net.Conn) {
	_ = c.(*net.TCPConn).SetKeepAliveConfig(net.KeepAliveConfig{Enable: true, Idle: time.Second, Interval: time.Second, Count: 9})
}

// gone gives the error by which a side of a connection learns that it has ended, and when.
func gone(c net.Conn) <-chan error {
	out := make(chan error, 1)
	go func() {
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		_, err := io.Copy(io.Discard, c)
		out <- err
	}()
	return out
}

// A connection that the agent names ends on both sides though nobody says anything on it, and no other one does.
func TestSilentConnectionsEnd(t *testing.T) {
	for name, ip := range map[string]string{"IPv4": podV4, "IPv6": podV6} {
		t.Run(name, func(t *testing.T) {
			pod, peer := newPodWithIdentity(t)
			accepted := make(chan net.Conn, 3)
			done := make(chan struct{})
			t.Cleanup(func() { close(done) })
			pod.answer(fmt.Sprintf(":%d", fixed.InboundPort), func(c net.Conn) {
				keepAlive(c)
				accepted <- c
				<-done
			})
			pod.echo(":8080")
			connect := func(port string) (client, server net.Conn) {
				client = peer.connect(net.JoinHostPort(ip, port))
				return client, <-accepted
			}
			client, server := connect("8080")
			beside, besideServer := connect("8080")
			named := client.LocalAddr().(*net.TCPAddr).AddrPort()

			if got := pod.end(1338, named); got != ErrNotTaken.Error() {
				t.Errorf("another user: %q, want that it is not taken", got)
			}
			for _, c := range []net.Conn{client, beside} {
				if _, err := io.WriteString(c, "x"); err != nil {
					t.Fatal(err)
				}
			}
			for _, c := range []net.Conn{server, besideServer} {
				_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
				if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
					t.Fatalf("before: %v", err)
				}
			}

			start := time.Now()
			if got := pod.end(fixed.ProxyUID, named); got != "<nil>" {
				t.Fatalf("the agent: %q", got)
			}
			ends := map[string]<-chan error{"the caller": gone(client), "the sidecar": gone(server)}
			for side, end := range ends {
				if err := <-end; err == nil || !isReset(err) {
					t.Errorf("%s: %v, want a reset", side, err)
				}
				t.Logf("%s after %s", side, time.Since(start).Round(time.Millisecond))
			}
			if _, err := io.WriteString(beside, "y"); err != nil {
				t.Fatal(err)
			}
			_ = besideServer.SetReadDeadline(time.Now().Add(5 * time.Second))
			if _, err := io.ReadFull(besideServer, make([]byte, 1)); err != nil {
				t.Errorf("a connection beside it: %v", err)
			}
		})
	}
}

// A caller may have connections to two ports of the pod from one port of its own. To Envoy they come from two ports, and each
// ends by the port that Envoy sees.
func TestConnectionsFromOnePortEnd(t *testing.T) {
	for caller, ip := range map[string]string{peerV4: podV4, peerV6: podV6} {
		t.Run(caller, func(t *testing.T) {
			pod, peer := newPodWithIdentity(t)
			seen := make(chan netip.AddrPort, 2)
			pod.answer(fmt.Sprintf(":%d", fixed.InboundPort), func(c net.Conn) {
				seen <- c.RemoteAddr().(*net.TCPAddr).AddrPort()
				_, _ = io.Copy(c, c)
			})
			const port = 40002
			connect := func(to string) (c net.Conn, atEnvoy netip.AddrPort) {
				pod.echo(":" + to)
				peer.do(func() (err error) {
					d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(caller), Port: port}, Control: sharesPort}
					c, err = d.Dial("tcp", net.JoinHostPort(ip, to))
					return err
				})
				t.Cleanup(func() { c.Close() })
				return c, <-seen
			}
			first, _ := connect("8080")
			second, atEnvoy := connect("8081")
			if atEnvoy.Port() == port {
				t.Fatalf("both come from %s to Envoy, which this test is not about", atEnvoy)
			}
			if got := pod.end(fixed.ProxyUID, atEnvoy); got != "<nil>" {
				t.Fatal(got)
			}
			if _, err := io.WriteString(second, "x"); err != nil {
				t.Fatal(err)
			}
			if err := <-gone(second); !isReset(err) {
				t.Errorf("%v, want a reset", err)
			}
			say(t, first, "the other one goes on")
		})
	}
}

// sharesPort lets the caller's port be that of another connection too.
func sharesPort(_, _ string, c syscall.RawConn) (err error) {
	return errors.Join(c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) }), err)
}

// Bytes that come on such a connection do not reach the sidecar, and the caller is told.
func TestWhatIsSaidOnAnEndedConnection(t *testing.T) {
	pod, peer := newPodWithIdentity(t)
	pod.echo(fmt.Sprintf(":%d", fixed.InboundPort))
	pod.echo(":8080")
	c := peer.connect(net.JoinHostPort(podV4, "8080"))
	say(t, c, "before")
	if got := pod.end(fixed.ProxyUID, c.LocalAddr().(*net.TCPAddr).AddrPort()); got != "<nil>" {
		t.Fatal(got)
	}
	if _, err := io.WriteString(c, "after"); err != nil {
		t.Fatal(err)
	}
	_ = c.SetReadDeadline(time.Now().Add(5 * time.Second))
	if n, err := c.Read(make([]byte, 9)); n > 0 || !isReset(err) {
		t.Errorf("got %d bytes, %v, want a reset", n, err)
	}
}

// A caller may take the port of a connection that has ended for another one.
func TestAnotherConnectionFromAnEndedPort(t *testing.T) {
	pod, peer := newPodWithIdentity(t)
	pod.echo(fmt.Sprintf(":%d", fixed.InboundPort))
	pod.echo(":8080")
	const port = 40001
	for ip, caller := range map[string]string{podV4: peerV4, podV6: peerV6} {
		if got := pod.end(fixed.ProxyUID, netip.AddrPortFrom(netip.MustParseAddr(caller), port)); got != "<nil>" {
			t.Fatal(got)
		}
		var c net.Conn
		peer.do(func() (err error) {
			d := net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.ParseIP(caller), Port: port}}
			c, err = d.Dial("tcp", net.JoinHostPort(ip, "8080"))
			return err
		})
		t.Cleanup(func() { c.Close() })
		say(t, c, "again")
	}
}

func isReset(err error) bool { return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE) }
