package addresses

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	descriptorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/common/ratelimit/v3"
	ratelimitv3 "github.com/envoyproxy/go-control-plane/envoy/service/ratelimit/v3"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/internal/sds"
)

const server, client = "spiffe://cluster.local/ns/shop/sa/server", "spiffe://cluster.local/ns/shop/sa/client"

func at(i int) netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), 80)
}

func start(t *testing.T, c *controlPlane, change func(*Options)) (*Addresses, *prometheus.Registry) {
	t.Helper()
	r := prometheus.NewRegistry()
	o := Options{
		Node: node.Node{Namespace: "shop", Pod: "client", ServiceAccount: "client"}.Proto(), Registerer: r, Log: slog.New(slog.DiscardHandler),
		Dial: func(context.Context) (net.Conn, error) {
			if c.down.Load() {
				return nil, errors.New("down")
			}
			return net.Dial("tcp", c.address)
		},
	}
	if change != nil {
		change(&o)
	}
	a := New(o)
	var running sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	running.Go(func() { a.Run(ctx) })
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
	return a, r
}

func await(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// who asks as Envoy does, and gives the answer in one word.
func who(t *testing.T, a *Addresses, i int) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	res, err := service{addresses: a}.ShouldRateLimit(ctx, question(at(i).String()))
	if err != nil {
		t.Fatal(err)
	}
	fields := res.GetDynamicMetadata().GetFields()
	cluster, identity := fields[sds.AddressCluster].GetStringValue(), fields[sds.AddressIdentity].GetStringValue()
	switch {
	case res.OverallCode != ratelimitv3.RateLimitResponse_OK && len(fields) == 0:
		return "nobody"
	case cluster == sds.PlainCluster && identity == "":
		return sds.PlainText
	case cluster == sds.PodsCluster && identity != "":
		return identity
	}
	t.Fatalf("an answer that means nothing: %v", res)
	return ""
}

func question(destination string) *ratelimitv3.RateLimitRequest {
	return &ratelimitv3.RateLimitRequest{Domain: sds.AddressDomain, Descriptors: []*descriptorv3.RateLimitDescriptor{{
		Entries: []*descriptorv3.RateLimitDescriptor_Entry{{Key: sds.AddressKey, Value: destination}},
	}}}
}

func TestWho(t *testing.T) {
	c := startControlPlane(t)
	a, _ := start(t, c, nil)
	c.set(1, server)
	c.set(2, sds.PlainText)
	for i, want := range map[int]string{1: server, 2: sds.PlainText} {
		if got := who(t, a, i); got != want {
			t.Errorf("%d: %s, want %s", i, got, want)
		}
	}
	// One that is not known yet is waited for, by several.
	var waiting sync.WaitGroup
	for range 3 {
		waiting.Go(func() {
			if got := who(t, a, 3); got != client {
				t.Errorf("got %s", got)
			}
		})
	}
	await(t, "it is asked for", func() bool { return slices.Contains(c.names(), sds.AddressName(at(3))) })
	c.set(3, client)
	waiting.Wait()
	// Somebody else comes.
	c.set(1, client)
	await(t, "it is heard", func() bool { return who(t, a, 1) == client })
	// What can not be meant is not taken: several names would be any of them.
	c.set(1, server+","+client)
	c.set(1, "anybody")
	c.set(2, server)
	await(t, "it is heard", func() bool { return who(t, a, 2) == server })
	if got := who(t, a, 1); got != client {
		t.Errorf("got %s", got)
	}
}

// A replica that will not tell does not end the wait: another one may.
func TestNotToBeTold(t *testing.T) {
	c := startControlPlane(t)
	a, _ := start(t, c, nil)
	answer := make(chan string)
	go func() { answer <- who(t, a, 1) }()
	name := sds.AddressName(at(1))
	await(t, "it is asked for", func() bool { return slices.Contains(c.names(), name) })
	c.send(nil, name)
	c.mu.Lock()
	c.who[name] = server
	c.end()
	c.mu.Unlock()
	if got := <-answer; got != server {
		t.Errorf("got %s", got)
	}
}

// What is known needs no control plane. A stream that is made anew tells what is known, and hears what has changed.
func TestWithoutControlPlane(t *testing.T) {
	c := startControlPlane(t)
	a, r := start(t, c, nil)
	c.set(1, server)
	c.set(2, server)
	who(t, a, 1)
	who(t, a, 2)
	c.down.Store(true)
	c.end()
	if got := who(t, a, 1); got != server {
		t.Errorf("got %s", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.Who(ctx, at(3)); !errors.Is(err, errUnknown) {
		t.Errorf("of an address that is not known: %v", err)
	}
	counted(t, r, `mizzen_agent_pod_address_refusals_total{reason="unknown"} 1`)
	c.mu.Lock()
	c.who[sds.AddressName(at(2))], c.who[sds.AddressName(at(3))] = client, client
	c.mu.Unlock()
	c.down.Store(false)
	await(t, "it is heard what has changed", func() bool { return who(t, a, 2) == client })
	if got := who(t, a, 3); got != client {
		t.Errorf("got %s", got)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	want := map[string]string{sds.AddressName(at(1)): "of " + server, sds.AddressName(at(2)): "of " + server}
	if !maps.Equal(c.first.InitialResourceVersions, want) || c.first.Node.GetId() != "shop/client" {
		t.Errorf("the second stream begins with %v", c.first)
	}
}

// There is room for so many at a time. The one that was called longest ago makes room for another, but none that somebody
// waits for.
func TestTooMany(t *testing.T) {
	const most = 4
	c := startControlPlane(t)
	a, r := start(t, c, func(o *Options) { o.Most = most })
	for i := range 100 {
		c.set(i, server)
	}
	for i := range 100 {
		if got := who(t, a, i); got != server {
			t.Fatalf("%d: %s", i, got)
		}
		who(t, a, 0) // again and again
	}
	want := []string{sds.AddressName(at(0)), sds.AddressName(at(97)), sds.AddressName(at(98)), sds.AddressName(at(99))}
	await(t, "the last ones are asked for", func() bool { return slices.Equal(c.names(), want) })
	if got := c.atATime(); got > most {
		t.Errorf("%d are asked for at a time", got)
	}
	var waiting sync.WaitGroup
	for i := range most {
		waiting.Go(func() {
			if got := who(t, a, 200+i); got != client {
				t.Errorf("got %s", got)
			}
		})
	}
	await(t, "all of them wait", func() bool { return strings.Contains(fmt.Sprint(c.names()), "10.1.0.203") && len(c.names()) == most })
	await(t, "there is no room", func() bool { return who(t, a, 1) == "nobody" })
	for i := range most {
		c.set(200+i, client)
	}
	waiting.Wait()
	if got := who(t, a, 1); got != server {
		t.Errorf("got %s", got)
	}
	if n := testutil.ToFloat64(a.refused.WithLabelValues("too-many")); n == 0 {
		t.Error("not counted")
	}
	counted(t, r, "mizzen_agent_pod_addresses 4")
}

// What nobody calls is given up, and at the end the stream, until there is another call.
func TestIdle(t *testing.T) {
	c := startControlPlane(t)
	a, r := start(t, c, func(o *Options) { o.Idle = 20 * time.Millisecond })
	c.set(1, server)
	who(t, a, 1)
	await(t, "it is forgotten", func() bool { return a.count() == 0 })
	counted(t, r, "mizzen_agent_pod_addresses 0")
	if got := who(t, a, 1); got != server {
		t.Errorf("got %s", got)
	}
	await(t, "another stream", func() bool { c.mu.Lock(); defer c.mu.Unlock(); return c.streams > 1 })
}

// Envoy does not ask so; whoever does learns nothing, and nobody is asked for him.
func TestOddQuestions(t *testing.T) {
	a, _ := start(t, startControlPlane(t), nil)
	for _, q := range []*ratelimitv3.RateLimitRequest{
		{}, {Domain: sds.AddressDomain}, question("10.1.0.1"), question(""), question("web:80"),
		{Domain: "other", Descriptors: question("10.1.0.1:80").Descriptors},
	} {
		if _, err := (service{addresses: a}).ShouldRateLimit(t.Context(), q); status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v: %v", q, err)
		}
	}
	if a.count() != 0 {
		t.Error("something was asked for")
	}
}

func counted(t *testing.T, r *prometheus.Registry, want string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range families {
		for _, m := range f.Metric {
			line := f.GetName()
			for _, l := range m.Label {
				line += fmt.Sprintf("{%s=%q}", l.GetName(), l.GetValue())
			}
			all = append(all, fmt.Sprintf("%s %g", line, m.GetCounter().GetValue()+m.GetGauge().GetValue()))
		}
	}
	if !slices.Contains(all, want) {
		t.Errorf("want %s in %q", want, all)
	}
}
