package feature

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// exchange sends a line over a new connection and reads lines until it comes back.
func exchange(t *testing.T, addr, line string) (a answer) {
	t.Helper()
	start := time.Now()
	defer func() { a.took = time.Since(start) }()
	c := dial(t, addr)
	defer c.Close()
	fmt.Fprintln(c, line)
	for r := bufio.NewReader(c); a.err == nil && a.body != line+"\n"; {
		a.body, a.err = r.ReadString('\n')
	}
	return a
}

// refused fails the test if a connection is not closed at once.
func refused(t *testing.T, what, addr string) {
	t.Helper()
	if a := exchange(t, addr, "a"); a.err == nil || a.body != "" || a.took > 2*time.Second {
		t.Errorf("%s: %s, want the connection closed at once", what, a)
	}
}

// TestTCPOnDemand: a cluster is asked for at the first connection. A Service that does not exist, or no
// longer, refuses each connection at once, and is there when it comes (back).
func TestTCPOnDemand(t *testing.T) {
	greeter(t, "10.244.0.5:9000")
	serveTCP(t, "10.244.0.6:9000", func(c net.Conn) { _, _ = io.Copy(c, c) })
	db := func(ip, endpoint string) service {
		return service{ips: []string{ip}, port: port("tcp", 9000), endpoints: []string{endpoint}}
	}
	services := map[string]service{
		"greeter": db("10.96.0.20", "10.244.0.5:9000"),
		"echo":    db("10.96.0.21", "10.244.0.6:9000"),
		"nobody":  {ips: []string{"10.96.0.22"}, port: port("tcp", 9000)},
	}
	w := newMesh(t, services, onDemand)
	for range 2 {
		if g := dialGreeter(t, "10.96.0.20:9000"); g.hello != "hello from 10.244.0.5:9000" || g.echo("a") != "a" {
			t.Errorf("server speaks first: %q", g.hello)
		}
		if a := exchange(t, "10.96.0.21:9000", "a"); a.err != nil {
			t.Errorf("client speaks first: %s", a)
		}
	}
	const addr = "10.96.0.99:9000"
	thrice := func(what, addr string) {
		t.Helper()
		for i := range 3 {
			refused(t, fmt.Sprintf("%s, connection %d", what, i), addr)
		}
	}
	comes := func(what string) {
		t.Helper()
		w.await(what, func() error { return exchange(t, addr, "a").err })
	}
	goes := func() {
		t.Helper()
		w.await("the cluster is taken away", func() error {
			if a := exchange(t, addr, "a"); a.err == nil {
				return fmt.Errorf("%s", a)
			}
			return nil
		})
	}
	thrice("no endpoints", "10.96.0.22:9000")
	thrice("no such Service", addr)
	more := maps.Clone(services)
	more["new"] = db("10.96.0.99", "10.244.0.6:9000")
	w.publish(more)
	comes("the Service that was missing answers")
	w.publish(services)
	goes()
	thrice("deleted", addr)
	w.publish(more)
	comes("the Service that was deleted answers")

	w.stop() // a new server hears from Envoy which names it has asked for
	w.startControlPlane()
	w.publish(services)
	goes()
	thrice("deleted after a reconnect", addr)
	w.publish(more)
	comes("the Service that was deleted answers after a reconnect")
}

// TestTCPEarlyBytes: what a client sends while its cluster is asked for arrives, and so does the end.
func TestTCPEarlyBytes(t *testing.T) {
	serveTCP(t, "10.244.0.6:9000", func(c net.Conn) {
		n, err := io.Copy(io.Discard, c)
		fmt.Fprintf(c, "%d %v", n, err)
	})
	sizes := []int{5, 300_000, 10_000_000}
	services := map[string]service{}
	for i := range sizes {
		services[fmt.Sprintf("db-%d", i)] = service{ips: []string{fmt.Sprintf("10.96.0.%d", 20+i)}, port: port("tcp", 9000), endpoints: []string{"10.244.0.6:9000"}}
	}
	w := newMesh(t, services, onDemand, tapped)
	w.tap.holdBack(responses(envoy.ClusterType))
	var sending, all sync.WaitGroup
	for i, size := range sizes {
		c := dial(t, fmt.Sprintf("10.96.0.%d:9000", 20+i))
		sending.Add(1)
		all.Go(func() {
			half := strings.NewReader(strings.Repeat("x", size/2))
			_, _ = io.CopyN(c, half, min(half.Size(), 10_000)) // as much as nobody needs to read
			sending.Done()
			if _, err := io.Copy(c, io.MultiReader(half, strings.NewReader(strings.Repeat("y", size-size/2)))); err != nil {
				t.Errorf("%d bytes: %v", size, err)
			}
			_ = c.CloseWrite()
			got, err := io.ReadAll(c)
			if want := fmt.Sprintf("%d <nil>", size); string(got) != want || err != nil {
				t.Errorf("%d bytes: the server says %q, error %v", size, got, err)
			}
		})
	}
	sending.Wait()
	w.awaitHeld()
	w.tap.release()
	all.Wait()
}
