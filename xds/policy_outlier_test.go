package xds_test

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/translate"
)

// ejecting is Service cart, whose endpoints are ejected for an hour after two failures.
func ejecting(percent uint32) *mesh.Service {
	svc := service("cart")
	svc.Policy.Outliers = &config.Outliers{
		ConsecutiveErrors: 2, Interval: 20 * time.Millisecond, EjectionTime: time.Hour, MaxEjectedPercent: percent,
	}
	return svc
}

// goodInARow calls until so many answers in a row are good; that takes an ejection where an endpoint fails.
func goodInARow(t *testing.T, f *fleet, n int) {
	t.Helper()
	row := 0
	eventually(t, "good answers in a row", func() bool {
		for ; row < n; row++ {
			if res, _ := f.get("/"); res.StatusCode != 200 {
				row = 0
				return false
			}
		}
		return true
	})
}

// An endpoint that fails gets no more calls; more than half of them go on getting calls, whatever they
// answer.
func TestOutliersAreEjected(t *testing.T) {
	for name, c := range map[string]struct {
		good, bad, ejected int
		percent            uint32
	}{
		"one of two":            {good: 1, bad: 1, ejected: 1, percent: 50},
		"the only one":          {bad: 1, ejected: 0, percent: 50},
		"both of two":           {bad: 2, ejected: 1, percent: 50},
		"all of three":          {bad: 3, ejected: 1, percent: 50},
		"two of four":           {good: 2, bad: 2, ejected: 2, percent: 50},
		"all of five":           {bad: 5, ejected: 2, percent: 50},
		"all of five, a fifth":  {bad: 5, ejected: 1, percent: 20},
		"two of three, a third": {good: 1, bad: 2, ejected: 0, percent: 33}, // 33.3 is more
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, ejecting(c.percent))
			var all []*backend
			var members []netip.AddrPort
			for i := range c.good + c.bad {
				b := named(t, "good")
				if i >= c.good {
					b = failing(t)
				}
				all, members = append(all, b), append(members, b.address)
			}
			f.set("cart", members...)
			f.serve(nil)
			used := func(calls int) int { // endpoints that so many calls reach
				for _, b := range all {
					b.calls.Store(0)
				}
				for range calls {
					if res, body := f.get("/"); res.StatusCode == 503 {
						t.Fatalf("no endpoint is left: %s", body)
					}
				}
				n := 0
				for _, b := range all {
					if b.calls.Load() > 0 {
						n++
					}
				}
				return n
			}
			want := len(all) - c.ejected
			eventually(t, "ejections", func() bool { return used(60) <= want })
			// Least request takes the better of two at random: 200 calls miss none of five.
			for range 5 {
				if n := used(200); n != want {
					t.Errorf("%d endpoints of %d get calls, want %d", n, len(all), want)
				}
			}
			if c.bad == c.ejected {
				goodInARow(t, f, 50)
			}
		})
	}
}

// A failure to connect counts, too.
func TestOutliersThatRefuse(t *testing.T) {
	f := newFleet(t, ejecting(50))
	f.cfg.Traffic.Retry.Attempts = new(int32(0))
	f.set("cart", named(t, "good").address, reserved(t))
	f.serve(nil)
	failed := false
	eventually(t, "a failure", func() bool { res, _ := f.get("/"); failed = res.StatusCode == 503; return failed })
	goodInARow(t, f, 100)
}

// Where endpoints go until most of those left are ejected ones, these get calls again.
func TestEjectedOnesThatAreLeft(t *testing.T) {
	bad, good := failing(t), named(t, "good")
	f := newFleet(t, ejecting(50))
	f.set("cart", bad.address, good.address)
	f.serve(nil)
	eventually(t, "a failure", func() bool { res, _ := f.get("/"); return res.StatusCode == 500 })
	goodInARow(t, f, 50)
	f.set("cart", bad.address)
	for { // never "no healthy upstream"
		res, body := f.get("/")
		if res.StatusCode == 500 {
			break
		}
		if res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
}

// It comes back when its time is over.
func TestOutliersReturn(t *testing.T) {
	svc := ejecting(50)
	svc.Policy.Outliers.EjectionTime = 200 * time.Millisecond
	bad := failing(t)
	f := newFleet(t, svc)
	f.set("cart", bad.address, named(t, "good").address)
	f.serve(nil)
	eventually(t, "a failure", func() bool { res, _ := f.get("/"); return res.StatusCode == 500 })
	goodInARow(t, f, 20)
	eventually(t, "a call to the ejected one", func() bool { res, _ := f.get("/"); return res.StatusCode == 500 })
}

// greeting is the address of a server that says a byte to each connection.
func greeting(t *testing.T) netip.AddrPort {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("x"))
			conn.Close()
		}
	}()
	return l.Addr().(*net.TCPAddr).AddrPort()
}

// greeted connects, and reports whether the server's byte comes.
func (f *fleet) greeted() bool {
	f.t.Helper()
	conn, err := net.Dial("tcp", f.address)
	if err != nil {
		f.t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err == nil
}

// serveBytes is outboundBytes with the attempts that sidecars make.
func (f *fleet) serveBytes() {
	f.t.Helper()
	f.load("10.0.0.1:80")
	var proxy *tcpv3.TcpProxy
	for _, r := range translate.All(f.cfg).Change.Set {
		l, ok := r.Message.(*listenerv3.Listener)
		if !ok {
			continue
		}
		for _, chain := range append(l.FilterChains, l.DefaultFilterChain) {
			for _, filter := range chain.GetFilters() {
				p := &tcpv3.TcpProxy{}
				if filter.GetTypedConfig().MessageIs(p) && filter.GetTypedConfig().UnmarshalTo(p) == nil && p.StatPrefix == "outbound_tcp" {
					proxy = p
				}
			}
		}
	}
	proxy.OnDemand, proxy.ClusterSpecifier = nil, &tcpv3.TcpProxy_Cluster{Cluster: "10.0.0.1:80"}
	f.address = startListener(f.t, func(port uint32) *listenerv3.Listener { return bytesBy(f.t, port, proxy) }, f.clusters...)
}

func (f *fleet) greetedInARow(n int) {
	f.t.Helper()
	eventually(f.t, "greetings in a row", func() bool {
		for range n {
			if !f.greeted() {
				return false
			}
		}
		return true
	})
}

// Of bytes failures to connect count.
func TestOutliersOfConnections(t *testing.T) {
	f := newFleet(t, ejecting(50))
	f.set("cart", greeting(t), reserved(t))
	f.outboundBytes()
	eventually(t, "a failure", func() bool { return !f.greeted() })
	f.greetedInARow(100)
}

// The status of a gRPC call counts like its equivalent in HTTP where it comes at once, as that of a failed
// unary call does. Envoy does not count one that comes behind messages.
func TestOutliersOfGRPC(t *testing.T) {
	answer := func(status string) *backend {
		return startBackend(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc")
			w.Header().Set("Grpc-Status", status)
		})
	}
	bad, good := answer("14"), answer("0")
	f := newFleet(t, ejecting(50))
	f.set("cart", bad.address, good.address)
	f.serve(nil)
	eventually(t, "a call to each", func() bool { callGRPC(t, f.address, ""); return bad.calls.Load() > 0 && good.calls.Load() > 0 })
	eventually(t, "an ejection", func() bool {
		bad.calls.Store(0)
		for range 30 {
			callGRPC(t, f.address, "")
		}
		return bad.calls.Load() == 0
	})
}
