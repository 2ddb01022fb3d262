package agent

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	frame "golang.org/x/net/http2"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/appprobe"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
)

// asGateway makes the settings those of a gateway. --await-capture and the like would wait forever.
func asGateway(delay, timeout time.Duration) func(*Settings) {
	return func(s *Settings) {
		s.Gateway, s.Node.Gateway = true, true
		s.DrainDelay, s.DrainTimeout = delay, timeout
	}
}

// A gateway has what every agent has, and nothing that is for an application.
func TestGatewayPages(t *testing.T) {
	cp := startControlPlane(t, listentest.FreeAddress(t))
	cp.send(clusterType)
	cp.send(listenerType)
	r := start(t, cp.addr, asGateway(0, time.Second))
	r.awaitReady(200, "ready")
	for path, want := range map[string]int{
		"/healthz": 200, "/startupz": 200, "/metrics": 200,
		appprobe.Path("app", appprobe.Liveness): 404, agentapi.PlainTextPath: 404,
	} {
		if code, body := r.get(path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

// quickToDrain is httpListener with a short time between the two GOAWAYs, and until an idle connection of HTTP/1.1 ends.
func quickToDrain(at netip.AddrPort) *listenerv3.Listener {
	l := httpListener(at)
	filter := l.GetFilterChains()[0].GetFilters()[0]
	m := &hcmv3.HttpConnectionManager{}
	if err := filter.GetTypedConfig().UnmarshalTo(m); err != nil {
		panic(err)
	}
	m.DrainTimeout = durationpb.New(500 * time.Millisecond)
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: toAny(m)}
	return l
}

// errElsewhere is what a client of one connection says when it needs another: the load balancer would choose another pod.
var errElsewhere = errors.New("elsewhere")

// oneConnection is a client that does not connect a second time. ended is closed when the server has closed its connection.
func oneConnection(protocol func(*http.Protocols)) (client *http.Client, ended <-chan struct{}) {
	var dialled atomic.Bool
	closed := make(chan struct{})
	transport := &http.Transport{Protocols: new(http.Protocols), DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
		if dialled.Swap(true) {
			return nil, errElsewhere
		}
		var d net.Dialer
		conn, err := d.DialContext(ctx, network, address)
		return &watched{Conn: conn, closed: closed}, err
	}}
	protocol(transport.Protocols)
	return &http.Client{Transport: transport}, closed
}

type watched struct {
	net.Conn
	once   sync.Once
	closed chan struct{}
}

func (w *watched) Read(b []byte) (int, error) {
	n, err := w.Conn.Read(b)
	if err != nil {
		w.once.Do(func() { close(w.closed) })
	}
	return n, err
}

var protocols = map[string]func(*http.Protocols){
	"HTTP/1.1": func(p *http.Protocols) { p.SetHTTP1(true) },
	"HTTP/2":   func(p *http.Protocols) { p.SetUnencryptedHTTP2(true) },
}

// No request of a client fails that goes elsewhere when it is asked to.
func TestGatewayDrain(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { time.Sleep(time.Millisecond) }))
	t.Cleanup(upstream.Close)
	for name, protocol := range protocols {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const delay = time.Second
			r, proxy := startWithRoute(t, upstream.Listener.Addr(), quickToDrain, asGateway(delay, 30*time.Second))
			client, _ := oneConnection(protocol)
			idle, idleEnded := oneConnection(protocol)
			get := func(client *http.Client) (closes bool, err error) {
				res, err := client.Get("http://" + proxy)
				if err != nil {
					return false, err
				}
				defer res.Body.Close()
				if _, err = io.Copy(io.Discard, res.Body); err == nil && res.StatusCode != http.StatusOK {
					err = errors.New(res.Status)
				}
				return res.Close, err
			}
			if _, err := get(idle); err != nil {
				t.Fatal(err)
			}
			var unready atomic.Pointer[time.Time]
			var after, closes int // requests since then, and how many of them said that the connection ends
			asked := make(chan time.Time, 1)
			go func() {
				defer close(asked)
				for {
					last, err := get(client)
					if errors.Is(err, errElsewhere) {
						asked <- time.Now()
						return
					}
					if err != nil {
						t.Error(err)
						return
					}
					if last {
						closes++
					}
					if unready.Load() != nil {
						after++
					}
					time.Sleep(time.Millisecond)
				}
			}()
			r.stop()
			r.awaitReady(503, "the gateway is shutting down")
			now := time.Now()
			unready.Store(&now)
			left, ok := <-asked
			if !ok {
				return
			}
			if waited := left.Sub(now); waited < delay/2 || after < 50 {
				t.Errorf("asked to leave after %v and %d requests, want about %v with service as before", waited, after, delay)
			}
			if want := map[string]int{"HTTP/1.1": 1}[name]; closes != want {
				t.Errorf("%d answers said that the connection ends, want %d", closes, want)
			}
			select {
			case <-idleEnded:
			case <-time.After(10 * time.Second):
				t.Error("the idle connection does not end")
			}
			if err, ok := r.wait(10 * time.Second); !ok || err != nil {
				t.Errorf("Run returned %v, %v; want nil", err, ok)
			}
		})
	}
}

// A client of HTTP/2 that asks nothing hears that it is to leave, too.
func TestGatewayTellsIdleClients(t *testing.T) {
	r, proxy := startWithRoute(t, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 1}, quickToDrain, asGateway(0, 30*time.Second))
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := io.WriteString(conn, frame.ClientPreface); err != nil {
		t.Fatal(err)
	}
	frames := frame.NewFramer(conn, conn)
	if err := frames.WriteSettings(); err != nil {
		t.Fatal(err)
	}
	for first := true; ; first = false {
		_ = conn.SetReadDeadline(time.Now().Add(10 * time.Second))
		next, err := frames.ReadFrame()
		if err != nil {
			t.Fatalf("no GOAWAY: %v", err)
		}
		if first {
			r.stop()
		}
		if f, ok := next.(*frame.GoAwayFrame); ok {
			if f.ErrCode != frame.ErrCodeNo {
				t.Errorf("GOAWAY with %v, want %v", f.ErrCode, frame.ErrCodeNo)
			}
			return
		}
	}
}

// Active requests and connections have the drain timeout, and new ones are still served.
func TestGatewayDrainWaits(t *testing.T) {
	arrived, release := make(chan struct{}, 1), make(chan struct{})
	upstream := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/slow" {
			return
		}
		arrived <- struct{}{}
		<-release
	}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), quickToDrain, asGateway(0, 30*time.Second))
	slow := make(chan error, 1)
	go func() {
		res, err := http.Get("http://" + proxy + "/slow")
		if err == nil && (res.StatusCode != 200 || !res.Close) {
			err = fmt.Errorf("%s, closes %v", res.Status, res.Close)
		}
		slow <- err
	}()
	<-arrived
	r.stop()
	r.awaitReady(503, "shutting down")
	for range 20 {
		if err := ask(&http.Client{Transport: &http.Transport{}}, "http://"+proxy); err != nil {
			t.Errorf("a new connection: %v", err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	close(release)
	if err := <-slow; err != nil {
		t.Error(err)
	}
	if err, ok := r.wait(10 * time.Second); !ok || err != nil {
		t.Errorf("Run returned %v, %v; want nil", err, ok)
	}
}

// A connection that never ends is cut at the timeout.
func TestGatewayDrainCuts(t *testing.T) {
	upstream, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { upstream.Close() })
	go func() {
		for {
			conn, err := upstream.Accept()
			if err != nil {
				return
			}
			go func() { _, _ = io.Copy(conn, conn) }()
		}
	}()
	const timeout = time.Second
	r, proxy := startWithRoute(t, upstream.Addr(), tcpListener, asGateway(0, timeout))
	conn, err := net.Dial("tcp", proxy)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	echo := func() error {
		_ = conn.SetDeadline(time.Now().Add(5 * time.Second))
		if _, err := io.WriteString(conn, "x"); err != nil {
			return err
		}
		_, err := io.ReadFull(conn, make([]byte, 1))
		return err
	}
	if err := echo(); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	r.stop()
	r.awaitReady(503, "shutting down")
	if err := echo(); err != nil {
		t.Error(err)
	}
	if err, ok := r.wait(10 * time.Second); !ok || err != nil {
		t.Fatalf("Run returned %v, %v; want nil", err, ok)
	}
	if took := time.Since(begin); took < timeout {
		t.Errorf("it ended after %v, want %v", took, timeout)
	}
	if err := echo(); err == nil {
		t.Error("the connection goes on")
	}
}

// A gateway that was never ready has no clients to wait for.
func TestGatewayEndsAtOnceIfItWasNeverReady(t *testing.T) {
	r := start(t, listentest.FreeAddress(t), asGateway(time.Minute, time.Minute))
	r.awaitReady(503, "not connected")
	r.stop()
	if err, ok := r.wait(5 * time.Second); !ok || err != nil {
		t.Errorf("Run returned %v, %v; want nil", err, ok)
	}
}

// More connections than allowed are closed, and do not harm the others.
func TestGatewayBoundsConnections(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), quickToDrain, func(s *Settings) {
		asGateway(0, time.Second)(s)
		s.MaxConnections, s.MemoryLimit = 3, 1<<30
	})
	var clients []*http.Client
	for range 3 {
		client, _ := oneConnection(protocols["HTTP/1.1"])
		if err := ask(client, "http://"+proxy); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, client)
	}
	one, _ := oneConnection(protocols["HTTP/1.1"])
	if err := ask(one, "http://"+proxy); err == nil {
		t.Error("a fourth connection is served")
	}
	for _, client := range clients {
		if err := ask(client, "http://"+proxy); err != nil {
			t.Error(err)
		}
	}
	if _, text := r.get("/metrics"); !slices.ContainsFunc(strings.Split(text, "\n"), func(line string) bool {
		return strings.HasPrefix(line, "envoy_listener_downstream_global_cx_overflow{") && strings.HasSuffix(line, " 1")
	}) {
		t.Error("the metrics do not say that a connection was refused")
	}
}

// A heap above its bound refuses clients, and neither ends Envoy nor hides what goes on.
func TestGatewayShedsLoad(t *testing.T) {
	upstream := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(upstream.Close)
	r, proxy := startWithRoute(t, upstream.Listener.Addr(), quickToDrain, func(s *Settings) {
		asGateway(0, time.Second)(s)
		s.MemoryLimit = 4 << 20 // an idle Envoy has more
	})
	eventually(t, func() bool {
		_, text := r.get("/metrics")
		return strings.Contains(text, "\nenvoy_overload_envoy_overload_actions_stop_accepting_connections_active{} 1\n")
	}, func() string { return "Envoy's heap is not above its bound" })
	if err := ask(&http.Client{Transport: &http.Transport{}, Timeout: time.Second}, "http://"+proxy); err == nil {
		t.Error("a request is served")
	}
	r.awaitReady(200, "ready")
}
