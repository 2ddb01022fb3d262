package server_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// isMade: clusters whose names begin so are made on demand.
func isMade(id envoy.ID) bool {
	return id.Type == envoy.ClusterType && strings.HasPrefix(id.Name, "made/")
}

// made is a cluster that is made on demand, in a version.
func made(name, version string) envoy.Resource {
	return lazy(clusterWith(name, "", version))[0]
}

// names waits for names that proxies have begun to want, and for names that no proxy wants any more.
func names(t *testing.T, m *server.OnDemand, wanted, unwanted int) (is, isNot []string) {
	t.Helper()
	await(t, fmt.Sprintf("%d wanted and %d not", wanted, unwanted), func() bool {
		select {
		case <-m.Changed():
		default:
			return false
		}
		now, nowNot := m.Take()
		for _, id := range now {
			is = append(is, id.Name)
		}
		for _, id := range nowNot {
			isNot = append(isNot, id.Name)
		}
		return len(is) >= wanted && len(isNot) >= unwanted
	})
	slices.Sort(is)
	slices.Sort(isNot)
	return is, isNot
}

func is(t *testing.T, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Fatalf("got %q, want %q", got, want)
	}
}

func TestMadeOnDemand(t *testing.T) {
	c := start(t)
	m := c.store.OnDemand(isMade)
	c.set(t, base())
	one := bare(t, c, pod("one", "n1"))
	one.subscribe(envoy.ClusterType, "made/a", "other")
	wanted, _ := names(t, m, 1, 0)
	is(t, wanted, "made/a")
	noEndpoints(t, one, "other") // the one that waits holds up nothing
	one.quiet()

	c.set(t, made("made/a", "1"))
	one.take(envoy.ClusterType, "made/a")
	one.quiet()

	// Another one gets it at once, and nobody has to make it for him.
	two := bare(t, c, pod("two", "n1"))
	two.subscribe(envoy.ClusterType, "made/a")
	two.take(envoy.ClusterType, "made/a")

	// It changes, is not known for a while, and is then the same or another.
	c.set(t, made("made/a", "2"))
	for _, p := range []*proxy{one, two} {
		p.take(envoy.ClusterType, "made/a")
	}
	for _, next := range []string{"2", "3"} {
		c.remove(t, made("made/a", ""))
		for _, p := range []*proxy{one, two} {
			p.quiet()
		}
		c.set(t, made("made/a", next))
	}
	for _, p := range []*proxy{one, two} {
		p.take(envoy.ClusterType, "made/a")
		p.quiet()
	}

	// It is wanted until both have gone.
	one.close()
	two.unsubscribe(envoy.ClusterType, "made/a")
	two.quiet()
	wanted, unwanted := names(t, m, 0, 1)
	is(t, wanted)
	is(t, unwanted, "made/a")
}

// A proxy that comes back keeps what it has until the replica that it comes to has made it, and what that replica can
// not make.
func TestMadeComesBack(t *testing.T) {
	c := start(t)
	m := c.store.OnDemand(isMade)
	c.set(t, base(), made("made/b", "1"))
	held := map[string]string{"base": c.version(t, envoy.ClusterType, "base"), "made/b": c.version(t, envoy.ClusterType, "made/b"), "made/c": "older", "made/d": "older"}
	c.remove(t, made("made/b", ""))
	p := c.connect(t, pod("one", "n1"))
	p.resume(envoy.ClusterType, held, "*", "made/a", "made/b", "made/c", "made/d")
	p.subscribe(envoy.ScopedRouteType)
	p.take(envoy.ScopedRouteType, "ask")
	wanted, _ := names(t, m, 4, 0)
	is(t, wanted, "made/a", "made/b", "made/c", "made/d")
	p.quiet()
	c.set(t, made("made/a", "1"), made("made/b", "1"), made("made/c", "2"))
	p.take(envoy.ClusterType, "made/a", "made/c")
	p.quiet()

	// Something is removed, so the time in which nothing is removed from a proxy that comes back is over.
	c.set(t, listener("l"))
	p.subscribe(envoy.ListenerType)
	p.take(envoy.ListenerType, "l")
	c.remove(t, listener("l"))
	p.take(envoy.ListenerType, "-l")
	p.quiet()
}

// A proxy that asks for many names at once never hears "does not exist" while a resource is being made.
func TestMadeWhileAsked(t *testing.T) {
	const rounds, each = 80, 50
	c := start(t)
	m := c.store.OnDemand(isMade)
	c.set(t, base())
	ctx, done := context.WithCancel(t.Context())
	var maker sync.WaitGroup
	maker.Go(func() {
		for {
			select {
			case <-m.Changed():
			case <-ctx.Done():
				return
			}
			wanted, _ := m.Take()
			for _, id := range wanted {
				if _, err := c.store.Apply(envoy.Change{Set: []envoy.Resource{made(id.Name, "1")}}); err != nil {
					t.Error(err)
				}
			}
		}
	})
	defer maker.Wait()
	defer done()
	p := bare(t, c, pod("one", "n1"))
	for round := range rounds {
		var asked []string
		for i := range each {
			asked = append(asked, fmt.Sprintf("made/%d-%d", round, i))
		}
		p.subscribe(envoy.ClusterType, asked...)
		for got := 0; got < each; {
			res := p.next(envoy.ClusterType)
			for _, r := range res.Resources {
				var got clusterv3.Cluster
				if err := r.Resource.UnmarshalTo(&got); err != nil || got.AltStatName == "" {
					t.Fatalf("round %d: cluster %q is as if it did not exist (%v)", round, r.Name, err)
				}
			}
			got += len(res.Resources)
			p.ack(res)
		}
	}
}

// What one proxy can have made is bounded. Beyond it a name is one that does not exist.
func TestTooManyMade(t *testing.T) {
	c := start(t)
	m := c.store.OnDemand(isMade)
	c.set(t, base())
	p := bare(t, c, pod("one", "n1"))
	var all []string
	for i := range server.MaxMade {
		all = append(all, fmt.Sprintf("made/%04d", i))
	}
	p.subscribe(envoy.ClusterType, all...)
	names(t, m, len(all), 0)
	c.set(t, made("made/more", "1")) // made for another proxy
	p.subscribe(envoy.ClusterType, "made/more")
	noEndpoints(t, p, "made/more")
	const refused = "# HELP mizzen_xds_pod_addresses_refused_total Requests for pod addresses that were refused because a sidecar had too many at a time. The control plane's log names the sidecar.\n" +
		"# TYPE mizzen_xds_pod_addresses_refused_total counter\nmizzen_xds_pod_addresses_refused_total 1\n"
	if err := testutil.GatherAndCompare(c.metrics, strings.NewReader(refused), "mizzen_xds_pod_addresses_refused_total"); err != nil {
		t.Error(err)
	}
	c.set(t, made("made/more", "2"))
	p.quiet()

	p.unsubscribe(envoy.ClusterType, "made/0000", "made/more")
	p.subscribe(envoy.ClusterType, "made/more")
	p.take(envoy.ClusterType, "made/more")
	wanted, unwanted := names(t, m, 1, 1)
	is(t, wanted, "made/more")
	is(t, unwanted, "made/0000")
	c.set(t, made("made/0001", "1"))
	p.take(envoy.ClusterType, "made/0001")
	p.quiet()
	p.close()
	if wanted, unwanted := names(t, m, 0, server.MaxMade); len(wanted) != 0 || len(unwanted) != server.MaxMade {
		t.Errorf("%d names are wanted anew and %d not any more, want 0 and %d", len(wanted), len(unwanted), server.MaxMade)
	}
	await(t, "nobody watches", func() bool { names, everything := c.store.Watched(); return names+everything == 0 })
}

// What is made on demand is not what a workload uses: it would drive out the Services.
func TestMadeIsNotUsed(t *testing.T) {
	c := start(t)
	c.store.OnDemand(isMade)
	c.set(t, base(), made("made/a", "1"))
	n := node.Node{Namespace: "shop", Pod: "one", ServiceAccount: "default", Workload: "Deployment/web"}
	p := bare(t, c, n.Proto())
	p.subscribe(envoy.ClusterType, "made/a")
	p.take(envoy.ClusterType, "made/a")
	n.Pod = "two"
	bare(t, c, n.Proto()).quiet()
}

// The stream on which an agent asks who is at addresses is no proxy, and nothing is sent ahead on it. Many can begin at
// once, beside the streams of many proxies that begin.
func TestAgentsAsk(t *testing.T) {
	const agents = 40
	c := start(t)
	m := c.store.OnDemand(func(id envoy.ID) bool { return id.Type == envoy.PodAddressType })
	c.set(t, base(), listener("l"))
	var all []*proxy
	for i := range agents {
		p := c.connect(t, pod(fmt.Sprint("pod-", i), "n1"))
		p.subscribe(envoy.PodAddressType, "pod/10.1.0.1:80")
		all = append(all, p)
	}
	wanted, _ := names(t, m, 1, 0)
	is(t, wanted, "pod/10.1.0.1:80")
	at := netip.MustParseAddrPort("10.1.0.1:80")
	for _, identity := range []string{"spiffe://cluster.local/ns/shop/sa/cart", "plain"} {
		c.set(t, envoy.PodAddress(at, identity))
		for _, p := range all {
			p.take(envoy.PodAddressType, "pod/10.1.0.1:80")
			p.quiet()
		}
	}
	if got := c.Proxies(); len(got) > 0 {
		t.Errorf("%d proxies: %v", len(got), got)
	}
	for _, p := range all {
		p.close()
	}
	_, unwanted := names(t, m, 0, 1)
	is(t, unwanted, "pod/10.1.0.1:80")
}
