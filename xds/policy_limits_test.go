package xds_test

import (
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mizzen-mesh/mizzen/config"
)

// The request above the limit is refused with 503 and the flag UO, and no server hears of it; those
// below the limit are answered. The same holds for calls with retries, which have a priority of their own.
func TestRequestsAboveTheLimit(t *testing.T) {
	for name, c := range map[string]struct {
		policy     config.ServicePolicy
		calls      config.Calls
		at, behind int32 // requests at the server, and those that wait
	}{
		"requests":                      {policy: config.ServicePolicy{MaxRequests: 3}, at: 3},
		"requests, with retries":        {policy: config.ServicePolicy{MaxRequests: 3}, calls: config.Calls{RetryOn: []string{"unavailable"}}, at: 3},
		"connections":                   {policy: config.ServicePolicy{MaxConnections: 2, MaxPendingRequests: 1}, at: 2, behind: 1},
		"connections, with retries":     {policy: config.ServicePolicy{MaxConnections: 2, MaxPendingRequests: 1}, calls: config.Calls{RetryOn: []string{"5xx"}, RetryAttempts: new(int32(0))}, at: 2, behind: 1},
		"connections without a waiting": {policy: config.ServicePolicy{MaxConnections: 2}, at: 2, behind: 5},
	} {
		t.Run(name, func(t *testing.T) {
			release := make(chan struct{})
			b := startBackend(t, func(http.ResponseWriter, *http.Request) { <-release })
			svc := service("cart")
			svc.Policy, svc.Calls = c.policy, c.calls
			f := newFleet(t, svc)
			f.set("cart", b.address)
			f.serve(nil)
			var wg sync.WaitGroup
			var once sync.Once
			free := func() { once.Do(func() { close(release) }) }
			defer wg.Wait()
			defer free()
			for i := range c.at { // one by one: a request waits while its connection is made
				wg.Go(func() {
					if res, body := f.get("/"); res.StatusCode != 200 {
						t.Errorf("below the limit: %d %s", res.StatusCode, body)
					}
				})
				eventually(t, "requests at the server", func() bool { return b.calls.Load() == i+1 })
			}
			answers := make(chan int, c.behind)
			for range c.behind {
				wg.Go(func() {
					res, _ := f.get("/")
					answers <- res.StatusCode
				})
			}
			if c.policy.MaxRequests > 0 || c.policy.MaxPendingRequests > 0 {
				// A request that still has a place waits, so several are sent until one is refused.
				refused := make(chan *http.Response, 1)
				eventually(t, "a refusal", func() bool {
					done := make(chan struct{})
					wg.Go(func() {
						defer close(done)
						if res, _ := f.get("/"); res.StatusCode != 200 {
							select {
							case refused <- res:
							default:
							}
						}
					})
					select {
					case <-done:
						return len(refused) > 0
					case <-time.After(100 * time.Millisecond):
						return len(refused) > 0
					}
				})
				if res := <-refused; res.StatusCode != 503 || res.Header.Get("x-flags") != "UO" {
					t.Errorf("above the limit: %d, flags %q", res.StatusCode, res.Header.Get("x-flags"))
				}
				if n := b.calls.Load(); n != c.at {
					t.Errorf("%d requests reached the server, want %d", n, c.at)
				}
			}
			free()
			if c.policy.MaxPendingRequests == 0 {
				for range c.behind {
					if status := <-answers; status != 200 {
						t.Errorf("one that waits: %d", status)
					}
				}
			}
			eventually(t, "the limit is free again", func() bool { res, _ := f.get("/"); return res.StatusCode == 200 })
		})
	}
}

// The connection above the limit is closed; when one ends another is let through.
func TestConnectionsAboveTheLimit(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn); conn.Close() }()
		}
	}()
	svc := service("cart")
	svc.Policy = config.ServicePolicy{MaxConnections: 2}
	f := newFleet(t, svc)
	f.set("cart", l.Addr().(*net.TCPAddr).AddrPort())
	f.load("10.0.0.1:80")
	address := startListener(t, func(port uint32) *listenerv3.Listener { return bytesTo(t, port, "10.0.0.1:80") }, f.clusters...)
	open := func() (net.Conn, error) {
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		if _, err := conn.Write([]byte("x")); err != nil {
			return conn, err
		}
		_, err = io.ReadFull(conn, make([]byte, 1))
		return conn, err
	}
	var conns []net.Conn
	for range 2 {
		// The connection by which it was seen that the listener is there may still count.
		eventually(t, "a connection below the limit", func() bool {
			conn, err := open()
			if err != nil {
				conn.Close()
				return false
			}
			conns = append(conns, conn)
			return true
		})
	}
	for range 3 {
		conn, err := open()
		conn.Close()
		if err == nil {
			t.Error("a connection above the limit")
		}
	}
	conns[0].Close()
	eventually(t, "the limit is free again", func() bool { conn, err := open(); conn.Close(); return err == nil })
	conns[1].Close()
}

// bytesTo is a listener that passes bytes to a cluster.
func bytesTo(t *testing.T, port uint32, cluster string) *listenerv3.Listener {
	return bytesBy(t, port, &tcpv3.TcpProxy{StatPrefix: "bytes", ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster}})
}

func bytesBy(t *testing.T, port uint32, proxy *tcpv3.TcpProxy) *listenerv3.Listener {
	return &listenerv3.Listener{
		Name: "bytes",
		Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
			Address: "127.0.0.1", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
		}}},
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name:       "envoy.filters.network.tcp_proxy",
			ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(t, proxy)},
		}}}},
	}
}

// Very many calls at once, most of them to an endpoint that has just died: each has its retry, though next to none is
// active while it backs off. A connection that fails takes all calls with it that wait for it.
func TestManyRetriesAtOnce(t *testing.T) {
	f := newFleet(t, service("cart"))
	f.set("cart", named(t, "good").address, reserved(t))
	f.serve(nil)
	var wg sync.WaitGroup
	begin := make(chan struct{})
	for range 1000 {
		wg.Go(func() {
			<-begin
			if res, body := f.get("/"); res.StatusCode != 200 {
				t.Errorf("%d %s", res.StatusCode, body)
			}
		})
	}
	close(begin)
	wg.Wait()
}
