package server_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

func numbered(from, n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = strconv.Itoa(from + i)
	}
	return out
}

func held(names []string) map[string]string {
	out := map[string]string{}
	for _, name := range names {
		out[name] = "1"
	}
	return out
}

// One that asks for too much is ended; nobody else hears of it.
func TestTooMuch(t *testing.T) {
	t.Parallel()
	const half = server.MaxNames/2 + 1
	for name, ask := range map[string]func(p *proxy){
		"names at once":        func(p *proxy) { p.subscribe(envoy.EndpointType, numbered(0, server.MaxNames+1)...) },
		"names of a wildcard":  func(p *proxy) { p.subscribe(envoy.ClusterType, append(numbered(0, server.MaxNames), "*")...) },
		"names held":           func(p *proxy) { p.resume(envoy.EndpointType, held(numbered(0, server.MaxNames+1))) },
		"names held of scopes": func(p *proxy) { p.resume(envoy.ScopedRouteType, held(numbered(0, server.MaxNames+1))) },
		"names asked for and held": func(p *proxy) {
			p.resume(envoy.EndpointType, held(numbered(0, half)), numbered(0, half)...)
		},
		"names bit by bit": func(p *proxy) {
			p.subscribe(envoy.RouteType, numbered(0, half)...)
			p.subscribe(envoy.RouteType, numbered(half, half)...)
		},
		"scopes of destinations bit by bit": func(p *proxy) {
			for from := 0; from <= server.MaxNames; from += half {
				var demands []string
				for _, name := range numbered(from, half) {
					demands = append(demands, envoy.Demand(name))
				}
				p.subscribe(envoy.ClusterType, demands...)
			}
		},
		"names held bit by bit": func(p *proxy) {
			p.resume(envoy.RouteType, held(numbered(0, half)), "a")
			p.resume(envoy.RouteType, held(numbered(half, half)), "a")
		},
		"types": func(p *proxy) {
			for i := range server.MaxTypes + 1 {
				p.subscribe(fmt.Sprint("type.googleapis.com/t.T", i), "a")
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			c.EndSilent(time.Minute) // a request of that size takes its time where there is little CPU
			c.set(t, append(whole("a"), listener("out"))...)
			good, bad := connected(t, c, "good"), c.connect(t, pod("bad", "n1"))
			ask(bad)
			if code := bad.ended(); code != codes.ResourceExhausted {
				t.Fatalf("ended with %v: %v", code, bad.err)
			}
			if n := c.total(t, "mizzen_xds_refused_streams_total", "names"); n != 1 {
				t.Errorf("%v refusals counted, want 1", n)
			}
			c.set(t, endpoints("a", 1))
			good.take(envoy.EndpointType, "a")
			good.quiet()
		})
	}
}

func TestLongHeader(t *testing.T) {
	c := start(t)
	p := c.connect(t, pod("a", "n1"))
	ctx := metadata.AppendToOutgoingContext(t.Context(), "x", strings.Repeat("a", 64<<10))
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.conn).DeltaAggregatedResources(ctx)
	if err == nil {
		_, err = stream.Recv()
	}
	if err == nil || !strings.Contains(err.Error(), "header list") {
		t.Errorf("%v", err)
	}
}

func TestStreamsOfOneAddress(t *testing.T) {
	c := startWith(t, server.Options{StreamsPerAddress: 2})
	c.set(t, append(whole("a"), listener("out"))...)
	one, two := connected(t, c, "one"), connected(t, c, "two")
	three := c.connect(t, pod("three", "n1"))
	if code := three.ended(); code != codes.ResourceExhausted {
		t.Fatalf("ended with %v: %v", code, three.err)
	}
	if n := c.total(t, "mizzen_xds_refused_streams_total", "streams"); n != 1 {
		t.Errorf("%v refusals counted, want 1", n)
	}
	one.quiet()
	two.close()
	await(t, "two is gone", func() bool { return len(c.Proxies()) == 1 })
	connected(t, c, "four")
	one.quiet()
}

// Neither one that never answers nor one that refuses everything delays the others.
func TestBadProxyDelaysNobody(t *testing.T) {
	for name, answer := range map[string]func(p *proxy, res *discoveryv3.DeltaDiscoveryResponse){
		"never acknowledges": func(*proxy, *discoveryv3.DeltaDiscoveryResponse) {},
		"refuses everything": func(p *proxy, res *discoveryv3.DeltaDiscoveryResponse) { p.nack(res, "no") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := start(t)
			c.set(t, append(whole("a"), listener("out"))...)
			good, bad := connected(t, c, "good"), connected(t, c, "bad")
			for i := range uint32(200) {
				c.set(t, endpoints("a", i+1), listener(fmt.Sprint("l", i)))
				for range 2 { // the endpoints and the listener, in any order
					good.ack(good.response("a change"))
				}
				for len(bad.in) > 0 {
					answer(bad, <-bad.in)
				}
			}
			good.quiet()
			await(t, "what waits for the bad one is counted", func() bool {
				for len(bad.in) > 0 {
					answer(bad, <-bad.in)
				}
				return (c.total(t, "mizzen_xds_pending_changes", "") > 0) == (name == "never acknowledges")
			})
		})
	}
}

// Requests beyond what a proxy may need come through one after the other.
func TestRequestFlood(t *testing.T) {
	t.Parallel()
	const beyond = server.RequestsPerSecond / 2
	c := start(t)
	c.set(t, append(whole("a"), listener("out"))...)
	good, flood := connected(t, c, "good"), c.connect(t, pod("flood", "n1"))
	began := time.Now()
	for range server.RequestsAtOnce + beyond {
		flood.unsubscribe(secretType, "none")
	}
	c.set(t, endpoints("a", 1))
	good.take(envoy.EndpointType, "a")
	good.quiet()
	flood.quiet() // is answered after all of them
	if took, least := time.Since(began), time.Second*beyond/server.RequestsPerSecond; took < least*9/10 {
		t.Errorf("%d requests were taken in %v, want %v at least", server.RequestsAtOnce+beyond, took, least)
	}
}

func TestDrain(t *testing.T) {
	t.Parallel()
	const drain, n = 500 * time.Millisecond, 12
	c := startWith(t, server.Options{Drain: drain})
	c.set(t, append(whole("a"), listener("out"))...)
	var proxies []*proxy
	for i := range n {
		proxies = append(proxies, connected(t, c, strconv.Itoa(i)))
	}
	// A silent stream holds up no other.
	c.connect(t, pod("mute", "n1"))

	type end struct {
		after time.Duration
		// stream and again are how the stream ended, and another on the same connection.
		stream, again error
	}
	ends := make(chan end, n)
	began := time.Now()
	for _, p := range proxies {
		go func() {
			for range p.in {
			}
			e := end{after: time.Since(began), stream: p.err}
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			if !p.conn.WaitForStateChange(ctx, connectivity.Ready) {
				e.again = errors.New("the connection stays: no GOAWAY came")
			} else if again, err := discoveryv3.NewAggregatedDiscoveryServiceClient(p.conn).DeltaAggregatedResources(context.Background()); err != nil {
				e.again = err
			} else {
				_, e.again = again.Recv()
			}
			ends <- e
		}()
	}
	if err := c.stop(); err != nil {
		t.Errorf("Serve: %v", err)
	}
	took := time.Since(began)
	var after []time.Duration
	for range n {
		e := <-ends
		after = append(after, e.after)
		if e.stream.Error() != "EOF" {
			t.Errorf("a stream ended with %v, want no error", e.stream)
		}
		if status.Code(e.again) != codes.Unavailable {
			t.Errorf("a new stream on the connection, after %v: %v, want Unavailable", e.after, e.again)
		}
	}
	slices.Sort(after)
	if spread := after[n-1] - after[0]; spread < drain/5 {
		t.Errorf("all streams ended within %v of each other, want some %v: %v", spread, drain, after)
	}
	if took > drain+2*time.Second {
		t.Errorf("Serve returned after %v", took)
	}
}

func TestVersionsKept(t *testing.T) {
	for _, length := range []int{server.MaxVersion, server.MaxVersion + 1, 1 << 20} {
		version, want := strings.Repeat("v", length), ""
		if length <= server.MaxVersion {
			want = version
		}
		if got := server.Kept(version); got != want {
			t.Errorf("of a version of %d bytes %d are kept, want %d", length, len(got), len(want))
		}
	}
	// One that is not kept is not that of the resource.
	c := start(t)
	c.set(t, endpoints("a", 1))
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.EndpointType, map[string]string{"a": strings.Repeat("v", 1<<20)}, "a")
	p.take(envoy.EndpointType, "a")
}

// Streams of one address that say nothing, which takes each its whole turn, leave turns to others.
func TestSilentStreamsOfOneAddress(t *testing.T) {
	t.Parallel()
	const rounds = 4
	c := start(t)
	c.set(t, base())
	mute := c.connect(t, pod("mute", "n1"))
	for n := 1; n < rounds*server.BeginnersAtOnce; {
		for range 3 { // further streams of the connection
			if _, err := discoveryv3.NewAggregatedDiscoveryServiceClient(mute.conn).DeltaAggregatedResources(mute.stream.Context()); err != nil {
				t.Fatal(err)
			}
			n++
		}
		mute = c.connect(t, pod("mute", "n1"))
		n++
	}
	await(t, "the silent streams are there", func() bool { return c.Entered() >= rounds*server.BeginnersAtOnce })

	from := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 0, 2)}}
	began := time.Now()
	p := c.connect(t, pod("one", "n1"), grpc.WithContextDialer(func(ctx context.Context, addr string) (net.Conn, error) {
		return from.DialContext(ctx, "tcp", addr)
	}))
	p.subscribe(envoy.ClusterType)
	p.take(envoy.ClusterType, "base")
	// In one queue with the others it would be its turn after rounds.
	if took, most := time.Since(began), rounds*server.BeginnerTime/2; took > most {
		t.Errorf("answered after %v, want %v at most", took, most)
	}
}

func TestSilentStreamEnds(t *testing.T) {
	c := start(t)
	c.EndSilent(50 * time.Millisecond)
	silent := c.connect(t, pod("silent", "n1"))
	if code := silent.ended(); code != codes.DeadlineExceeded {
		t.Errorf("ended with %v: %v", code, silent.err)
	}
}

// Envoy keeps the answers for names that do not exist, so their number is bounded. A call to one more is answered, too, and
// finds no routes.
func TestAbsentNames(t *testing.T) {
	c := start(t)
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	var demands []string
	names := numbered(1000, server.MaxAbsent+2)
	want, beyond := slices.Clone(names[:server.MaxAbsent]), names[server.MaxAbsent:]
	for _, name := range beyond {
		want = append(want, "-"+name)
	}
	for _, name := range names {
		demands = append(demands, envoy.Demand(name))
	}
	p.subscribe(envoy.ClusterType, demands...)
	p.scope(names...)
	p.take(envoy.RouteType, want...)
	p.answer(names...)
	p.subscribe(envoy.ClusterType, envoy.Demand("further"))
	p.scope("further")
	p.take(envoy.RouteType, "-further")
	p.answer("further")
	p.quiet()

	// Those that then exist come all the same; one of them had an entry, which is free now.
	for _, name := range []string{beyond[0], names[0]} {
		c.set(t, service("shop", name)...)
		p.warm(name)
		p.take(envoy.RouteType, name)
	}
	for _, name := range []string{"other", "last"} {
		p.subscribe(envoy.ClusterType, envoy.Demand(name))
		p.scope(name)
		if name == "other" {
			noRoutes(t, p, name)
		} else {
			p.take(envoy.RouteType, "-"+name)
		}
		p.answer(name)
	}
	p.quiet()
}
