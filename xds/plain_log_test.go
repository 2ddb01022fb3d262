package xds_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// callers waits until the agent of a pod knows enough of them, and gives them.
func (c *called) callers(t *testing.T, what string, enough func([]agentapi.Caller) bool) []agentapi.Caller {
	t.Helper()
	var got []agentapi.Caller
	eventually(t, "the agent to hear of "+what, func() bool {
		got = c.plain.Snapshot().Callers
		return enough(got)
	})
	return got
}

// dialFrom connects from an address of its own.
func dialFrom(t *testing.T, source string, to netip.AddrPort) net.Conn {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}
	conn, err := d.Dial("tcp", to.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

// Who calls in plain text is known while the connection is open, by the address that it comes from; who has mTLS, and
// who is refused, is not.
func TestPlainCallersAreTold(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo))
	if err := callTLS(pod.inbound, meshTLS(t, a, idClient)); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		conn := dialFrom(t, "127.0.0.7", pod.inbound)
		fmt.Fprint(conn, "hello there")
		if got, err := readN(conn, len("hello there")); err != nil {
			t.Fatal(got, err)
		}
	}
	silent := dialFrom(t, "127.0.0.8", pod.inbound) // passed on when the time of detection is over
	got := pod.callers(t, "two callers", func(c []agentapi.Caller) bool { return len(c) == 2 && c[0].Connections == 3 })
	for i, want := range []struct {
		source string
		n      uint64
	}{{"127.0.0.7", 3}, {"127.0.0.8", 1}} {
		if c := got[i]; c.Source.String() != want.source || c.Port != pod.inbound.Port() || c.Connections != want.n || c.Requests != 0 || c.First.IsZero() || c.Last.Before(c.First) {
			t.Errorf("%+v, want %d from %s", c, want.n, want.source)
		}
	}
	// The silent one is connected still: what it says comes back.
	fmt.Fprint(silent, "now")
	if got, err := readN(silent, 3); err != nil || got != "now" {
		t.Errorf("%q, %v", got, err)
	}
}

// Where a policy has the sidecar read HTTP, it is requests that are told: over HTTP/1.1, over HTTP/2, and one that goes
// on while it is told.
func TestPlainRequestsAreTold(t *testing.T) {
	a := newCA(t)
	release := make(chan struct{})
	app := startBackend(t, func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			<-release
		}
	})
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/all", Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}}}}}}}
	}), app.address)
	ask := func(id, source, path string, h2 bool) int {
		c := callerOf(t, a, pod, id, h2)
		if source != "" {
			c.client.DialContext = (&net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(source)}}).DialContext
		}
		status, _, _ := c.do("GET", path)
		return status
	}
	for range 2 {
		for _, h2 := range []bool{false, true} {
			if got := []int{ask(idClient, "", "/", h2), ask("", "127.0.0.7", "/", h2)}; got[0] != 200 || got[1] != 200 {
				t.Fatalf("HTTP/2 %t: answers %v over mTLS and in plain text", h2, got)
			}
		}
	}
	slow := make(chan int)
	go func() { slow <- ask("", "127.0.0.8", "/slow", false) }()
	got := pod.callers(t, "two callers", func(c []agentapi.Caller) bool { return len(c) == 2 && c[0].Requests == 4 })
	close(release)
	if status := <-slow; status != 200 {
		t.Errorf("the slow request: %d", status)
	}
	for i, want := range []struct {
		source string
		n      uint64
	}{{"127.0.0.7", 4}, {"127.0.0.8", 1}} {
		if c := got[i]; c.Source.String() != want.source || c.Port != pod.inbound.Port() || c.Requests != want.n || c.Connections != 0 {
			t.Errorf("%+v, want %d requests from %s", c, want.n, want.source)
		}
	}
}

// A call that no application took is none that strict mTLS would refuse.
func TestPlainCallsThatNobodyTakesAreNotTold(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	pod := startCalled(t, newCA(t), idCart, all(config.Permissive), l.Addr().(*net.TCPAddr).AddrPort())
	say := func(source string) (string, error) {
		conn := dialFrom(t, source, pod.inbound)
		fmt.Fprint(conn, "hello there")
		return readN(conn, len("hello there"))
	}
	if got, err := say("127.0.0.7"); err == nil {
		t.Fatalf("%q although nobody listens", got)
	}
	if l, err = net.Listen("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go echo(conn)
		}
	}()
	if _, err := say("127.0.0.8"); err != nil {
		t.Fatal(err)
	}
	// Envoy tells in the order of what happens: it has one worker.
	got := pod.callers(t, "the second call", func(c []agentapi.Caller) bool { return len(c) > 0 })
	if len(got) != 1 || got[0].Source.String() != "127.0.0.8" {
		t.Errorf("%+v", got)
	}
}

// A pod whose agent does not take the log, or is gone, serves plain text as before.
func TestPlainCallersWithoutAnAgent(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo))
	pod.stop()
	text := strings.Repeat("x", 1000)
	for range 300 { // far more entries than Envoy keeps
		conn := dial(t, pod.inbound.String())
		fmt.Fprint(conn, text)
		if got, err := readN(conn, len(text)); err != nil {
			t.Fatal(got, err)
		}
		conn.Close()
	}
}
