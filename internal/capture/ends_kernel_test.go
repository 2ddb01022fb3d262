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

	"github.com/mizzen-mesh/mizzen/config"
)

// endEnv makes the test binary an agent that ends a connection: "<caller's address>,<port>".
const endEnv = "MIZZEN_TEST_END"

func endOne(text string) {
	var c Connection
	var caller string
	if _, err := fmt.Sscanf(text, "%s %d", &caller, &c.Port); err != nil {
		fmt.Print(err)
		return
	}
	c.Caller = netip.MustParseAddrPort(caller)
	fmt.Print(c.End())
}

// end has a user end a connection, and gives what came out.
func (n ns) end(uid uint32, caller netip.AddrPort, port int) (answer string) {
	n.t.Helper()
	n.do(func() error {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = []string{fmt.Sprintf("%s=%s %d", endEnv, caller, port)}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
		out, err := cmd.CombinedOutput()
		answer = string(out)
		return err
	})
	return answer
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
			pod, peer := newPod(t)
			s := Default()
			s.CapturesOwnCalls = true
			pod.do(func() error { _, err := Install(s); return err })
			accepted := make(chan net.Conn, 3)
			done := make(chan struct{})
			t.Cleanup(func() { close(done) })
			pod.answer(fmt.Sprintf(":%d", config.InboundPort), func(c net.Conn) {
				keepAlive(c)
				accepted <- c
				<-done
			})
			pod.echo(":8080")
			pod.echo(":8081")
			connect := func(port string) (client, server net.Conn) {
				client = peer.connect(net.JoinHostPort(ip, port))
				return client, <-accepted
			}
			client, server := connect("8080")
			beside, besideServer := connect("8080")
			named := client.LocalAddr().(*net.TCPAddr).AddrPort()

			if got := pod.end(1338, named, 8080); got != ErrNotTaken.Error() {
				t.Errorf("another user: %q, want that it is not taken", got)
			}
			if got := pod.end(config.ProxyUID, named, 8081); got != "<nil>" { // another port
				t.Errorf("the agent: %q", got)
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
			if got := pod.end(config.ProxyUID, named, 8080); got != "<nil>" {
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

// Bytes that come on such a connection do not reach the sidecar, and the caller is told.
func TestWhatIsSaidOnAnEndedConnection(t *testing.T) {
	pod, peer := newPod(t)
	s := Default()
	s.CapturesOwnCalls = true
	pod.do(func() error { _, err := Install(s); return err })
	pod.echo(fmt.Sprintf(":%d", config.InboundPort))
	pod.echo(":8080")
	c := peer.connect(net.JoinHostPort(podV4, "8080"))
	say(t, c, "before")
	if got := pod.end(config.ProxyUID, c.LocalAddr().(*net.TCPAddr).AddrPort(), 8080); got != "<nil>" {
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
	pod, peer := newPod(t)
	s := Default()
	s.CapturesOwnCalls = true
	pod.do(func() error { _, err := Install(s); return err })
	pod.echo(fmt.Sprintf(":%d", config.InboundPort))
	pod.echo(":8080")
	const port = 40001
	for ip, caller := range map[string]string{podV4: peerV4, podV6: peerV6} {
		if got := pod.end(config.ProxyUID, netip.AddrPortFrom(netip.MustParseAddr(caller), port), 8080); got != "<nil>" {
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
