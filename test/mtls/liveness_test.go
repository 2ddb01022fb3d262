package mtls

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
)

// pausedReader holds that an application may stop reading for longer than a peer may be gone, and gets everything.
func pausedReader(t *testing.T, pods *world.Pods) {
	const size = 20 << 20
	l, err := pods.Server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, sinkPort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	got := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			time.Sleep(14 * time.Second) // what is tried is a pause longer than traffic.peerTimeout
			var n int64
			if n, err = io.Copy(io.Discard, c); err == nil && n != size {
				err = fmt.Errorf("%d bytes of %d", n, size)
			}
		}
		got <- err
	}()
	c, err := net.DialTimeout("tcp", fmt.Sprintf("%s:%d", world.ServerIP, sinkPort), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(make([]byte, size)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(c.Close(), <-got); err != nil {
		t.Error(err)
	}
}

// halfClosed holds that a client which has closed its half gets its answer, however late: conntrack forgets a half-closed
// connection of which it sees nothing for a minute, here for ten seconds, and then nothing is redirected any more.
func halfClosed(t *testing.T, pods *world.Pods) {
	for _, ns := range []world.NS{pods.Client, pods.Server} {
		if err := ns.Do(func() error {
			return os.WriteFile("/proc/sys/net/netfilter/nf_conntrack_tcp_timeout_close_wait", []byte("10"), 0)
		}); err != nil {
			t.Fatal(err)
		}
	}
	l, err := pods.Server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, latePort))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	served := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err == nil {
			defer c.Close()
			_, err = io.Copy(io.Discard, c)
			time.Sleep(14 * time.Second) // what is tried is an answer that comes later than conntrack's patience
			_, werr := io.WriteString(c, "late")
			err = errors.Join(err, werr)
		}
		served <- err
	}()
	d := net.Dialer{Timeout: 10 * time.Second, KeepAlive: -1}
	c, err := d.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(30 * time.Second))
	_, werr := io.WriteString(c, "question")
	err = errors.Join(werr, c.(*net.TCPConn).CloseWrite())
	got, rerr := io.ReadAll(c)
	if err := errors.Join(err, rerr, <-served); err != nil || string(got) != "late" {
		t.Errorf("the answer is %q, %v", got, err)
	}
}

// peerGone: the server's node goes without a word. Whoever has a connection on which nothing is said hears of it, by
// whatever way he has called, and whoever waits for an answer.
func peerGone(t *testing.T, pods *world.Pods) {
	const most = 15 * time.Second
	byIP := netip.AddrPortFrom(netip.MustParseAddr(world.ServerIP), greeterPort)
	// The address of another machine is one that no pod of the mesh has.
	outside := netip.AddrPortFrom(netip.MustParseAddr("10.88.0.3"), greeterPort)
	setLink(t, pods.Server, func(l netlink.Link) error {
		addr, err := netlink.ParseAddr(outside.Addr().String() + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, addr)
	})
	l, err := pods.Server.Listen(outside.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	greetAll(l)
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	entered := make(chan struct{}, 10)
	slow, err := pods.Server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, slowPort))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { slow.Close() })
	server := &http.Server{Protocols: new(http.Protocols), Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		entered <- struct{}{}
		<-hang
	})}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(slow)

	type waiter struct {
		name string
		wait func() error
	}
	var waiters []waiter
	for name, target := range map[string]string{"by Service": greeter, "by pod address": byIP.String(), "outside the mesh": outside.String()} {
		{
			c, err := net.DialTimeout("tcp", target, 10*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { c.Close() })
			if _, err := io.ReadFull(c, make([]byte, len("welcome\n"))); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			waiters = append(waiters, waiter{"bytes " + name, func() error {
				_ = c.SetReadDeadline(time.Now().Add(2 * most))
				_, err := c.Read(make([]byte, 1))
				return err
			}})
		}
	}
	var calls sync.WaitGroup
	for _, h2 := range []bool{false, true} {
		transport := &http.Transport{Protocols: new(http.Protocols)}
		transport.Protocols.SetHTTP1(!h2)
		transport.Protocols.SetUnencryptedHTTP2(h2)
		t.Cleanup(transport.CloseIdleConnections)
		ended := make(chan error, 1)
		calls.Go(func() {
			res, err := (&http.Client{Transport: transport, Timeout: 2 * most}).Get("http://" + slowService + "/")
			if err == nil {
				res.Body.Close()
				if res.StatusCode != http.StatusServiceUnavailable {
					err = fmt.Errorf("status %d", res.StatusCode)
				}
			}
			ended <- err
		})
		select {
		case <-entered:
		case err := <-ended:
			t.Fatalf("a call that is to be under way has ended: %v", err)
		}
		waiters = append(waiters, waiter{fmt.Sprintf("a call under way, HTTP/2 %t", h2), func() error { return <-ended }})
	}

	for _, side := range []struct {
		ns   world.NS
		port uint16
	}{{pods.Client, config.OutboundPort}, {pods.Server, config.InboundPort}} {
		if all, watched := accepted(t, side.ns, side.port); all == 0 || watched < all {
			t.Errorf("%d of %d connections at port %d have a timer", watched, all, side.port)
		}
	}
	setLink(t, pods.Server, netlink.LinkSetDown)
	t.Cleanup(func() { setLink(t, pods.Server, netlink.LinkSetUp) })
	start := time.Now()
	var wg sync.WaitGroup
	for _, w := range waiters {
		wg.Go(func() {
			err := w.wait()
			took := time.Since(start)
			t.Logf("%s: %v after %s", w.name, err, took.Round(100*time.Millisecond))
			if took > most {
				t.Errorf("%s: %s", w.name, took)
			}
		})
	}
	wg.Wait()
	calls.Wait()
}

// accepted counts the connections that have been accepted at a port, and those of which the kernel has a timer.
func accepted(t *testing.T, n world.NS, port uint16) (all, watched int) {
	t.Helper()
	if err := n.Do(func() error {
		table, err := os.ReadFile("/proc/thread-self/net/tcp") // proc_net_tcp.rst of the kernel's documentation
		for line := range strings.Lines(string(table)) {
			f := strings.Fields(line)
			if len(f) < 6 || !strings.HasSuffix(f[1], fmt.Sprintf(":%04X", port)) || f[3] != "01" { // ESTABLISHED
				continue
			}
			if all++; !strings.HasPrefix(f[5], "00:") {
				watched++
			}
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return all, watched
}

func setLink(t *testing.T, n world.NS, change func(netlink.Link) error) {
	t.Helper()
	if err := n.Do(func() error {
		l, err := netlink.LinkByName("eth0")
		if err != nil {
			return err
		}
		return change(l)
	}); err != nil {
		t.Fatal(err)
	}
}
