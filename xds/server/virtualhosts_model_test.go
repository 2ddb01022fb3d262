package server_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// edgeWorld has route configurations with virtual hosts that change at random, and a gateway that has some of them.
type edgeWorld struct {
	t   *testing.T
	c   *control
	r   *rand.Rand
	log []string
	// routes are the route configurations that there are, and hosts their virtual hosts by full name, both with a count of changes.
	routes, hosts map[string]int
	changes       int
}

// edgeProxy is a model of Envoy as far as route configurations and virtual hosts go. It has one subscription to virtual hosts, without a
// name, from the first route configuration on. It drops virtual hosts of route configurations that it does not have, and does not give
// up a route configuration that the server calls gone.
type edgeProxy struct {
	w *edgeWorld
	p *proxy
	// wanted are the route configurations that it subscribes to.
	wanted map[string]bool
	// tables are the route configurations that it serves by, with the versions of their virtual hosts.
	tables map[string]map[string]string
	// listed are the versions that it lists when it connects, by type and name. Of virtual hosts that is everything that came and has
	// not been called gone, even if it was dropped.
	listed map[string]map[string]string
	// asked is set once it has subscribed to virtual hosts.
	asked bool
	acks  []*discoveryv3.DeltaDiscoveryResponse
}

func (w *edgeWorld) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf(format, args...))
}

func (w *edgeWorld) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n-- the last of what happened:\n%s", fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
}

// change changes one route configuration or its virtual hosts. One without a virtual host is not made.
func (w *edgeWorld) change() {
	w.changes++
	routes := fmt.Sprint("r", w.r.IntN(3))
	own := func() (names []string) {
		for name := range w.hosts {
			if strings.HasPrefix(name, routes+"/") {
				names = append(names, name)
			}
		}
		slices.Sort(names)
		return names
	}
	before := maps.Clone(w.hosts)
	_, is := w.routes[routes]
	switch n := w.r.IntN(8); {
	case !is:
		w.routes[routes] = w.r.IntN(2)
		for _, host := range []string{"a", "b", "c", "d"} {
			if host == "a" || w.r.IntN(2) == 0 {
				w.hosts[routes+"/"+host] = w.r.IntN(3)
			}
		}
	case n < 2:
		delete(w.routes, routes)
		for _, name := range own() {
			delete(w.hosts, name)
		}
	case n == 2:
		w.routes[routes] = w.changes
	default:
		for range 1 + w.r.IntN(2) {
			name := routes + "/" + string(rune('a'+w.r.IntN(4)))
			if _, has := w.hosts[name]; has && w.r.IntN(2) == 0 && len(own()) > 1 {
				delete(w.hosts, name)
			} else {
				w.hosts[name] = w.changes
			}
		}
	}
	var change envoy.Change
	if version, has := w.routes[routes]; has {
		change.Set = append(change.Set, routesVersion(routes, version))
	} else {
		change.Remove = append(change.Remove, routesOf(routes).ID())
	}
	for name := range before {
		if _, stays := w.hosts[name]; !stays {
			change.Remove = append(change.Remove, envoy.ID{Type: envoy.VirtualHostType, Name: name})
		}
	}
	for name, version := range w.hosts {
		if strings.HasPrefix(name, routes+"/") {
			change.Set = append(change.Set, hostOf(routes, strings.TrimPrefix(name, routes+"/"), fmt.Sprint("c", version)))
		}
	}
	change.Set = owned("shop/one", change.Set...)
	if n := w.r.IntN(6); n < 4 { // which some of them name
		change.Set = append(change.Set, lazy(clusterWith(fmt.Sprint("c", n), "", fmt.Sprint(w.changes)))...)
	} else {
		change.Remove = append(change.Remove, cluster(fmt.Sprint("c", w.r.IntN(4)), "").ID())
	}
	w.note("changed %s to %v with %v", routes, w.routes, w.hosts)
	w.c.apply(w.t, change)
}

// connect starts a stream with what the proxy holds.
func (e *edgeProxy) connect() {
	if e.p != nil {
		e.p.close()
	}
	e.p, e.acks = e.w.c.connect(e.w.t, gatewayPod("one")), nil
	e.p.resume(envoy.ClusterType, maps.Clone(e.listed[envoy.ClusterType]))
	e.p.resume(envoy.ListenerType, maps.Clone(e.listed[envoy.ListenerType]))
	if len(e.wanted) > 0 {
		e.p.resume(envoy.RouteType, maps.Clone(e.listed[envoy.RouteType]), slices.Sorted(maps.Keys(e.wanted))...)
	}
	if e.asked {
		e.p.resume(envoy.VirtualHostType, maps.Clone(e.listed[envoy.VirtualHostType]))
	}
	e.w.note("connects with %v, of routes %v", e.listed[envoy.VirtualHostType], e.listed[envoy.RouteType])
}

// subscribe subscribes to a route configuration, or has it made anew.
func (e *edgeProxy) subscribe(name string) {
	e.forget(name)
	e.wanted[name] = true
	e.w.note("subscribes to %s", name)
	e.p.subscribe(envoy.RouteType, name)
}

func (e *edgeProxy) unsubscribe(name string) {
	if !e.wanted[name] {
		return
	}
	e.forget(name)
	delete(e.wanted, name)
	e.w.note("unsubscribes from %s", name)
	e.p.unsubscribe(envoy.RouteType, name)
}

func (e *edgeProxy) forget(name string) {
	delete(e.tables, name)
	delete(e.listed[envoy.RouteType], name)
}

func (e *edgeProxy) handle(res *discoveryv3.DeltaDiscoveryResponse) {
	e.w.note("gets %s %q", shortName(res.TypeUrl), content(res))
	e.acks = append(e.acks, res)
	listed := e.listed[res.TypeUrl]
	for _, r := range res.Resources {
		routes := r.Name[:max(strings.LastIndexByte(r.Name, '/'), 0)]
		switch {
		case res.TypeUrl == envoy.RouteType && !e.wanted[r.Name]:
			continue
		case res.TypeUrl == envoy.RouteType && e.tables[r.Name] == nil:
			e.tables[r.Name] = map[string]string{}
		case res.TypeUrl == envoy.VirtualHostType && e.tables[routes] != nil:
			e.tables[routes][r.Name] = r.Version
		}
		listed[r.Name] = r.Version
	}
	for _, name := range res.RemovedResources {
		delete(listed, name)
		if routes := name[:max(strings.LastIndexByte(name, '/'), 0)]; res.TypeUrl == envoy.VirtualHostType {
			delete(e.tables[routes], name)
		}
	}
	if len(e.tables) > 0 && !e.asked {
		e.asked = true
		e.p.subscribe(envoy.VirtualHostType)
	}
}

// receive handles the next response if there is one soon.
func (e *edgeProxy) receive() {
	select {
	case res, ok := <-e.p.in:
		if !ok {
			e.w.fail("the stream ended: %v", e.p.err)
		}
		e.handle(res)
	case <-time.After(200 * time.Microsecond):
	}
}

// ack sends one acknowledgement that is due.
func (e *edgeProxy) ack() {
	if len(e.acks) > 0 {
		e.p.ack(e.acks[0])
		e.acks = e.acks[1:]
	}
}

// settle goes on until the server has nothing to say.
func (e *edgeProxy) settle() {
	for clean := 0; clean < 2; clean++ {
		for len(e.acks) > 0 {
			e.ack()
			clean = 0
		}
		e.p.subscribe(secretType, "probe")
		for {
			res := e.p.any("an answer to a probe")
			if res.TypeUrl == secretType {
				e.p.ack(res)
				e.p.unsubscribe(secretType, "probe")
				break
			}
			e.handle(res)
			clean = -1
		}
	}
}

// differs returns how a settled proxy differs from the store.
func (e *edgeProxy) differs() string {
	all := e.w.c.versions(e.w.t)
	want, got := map[string]map[string]string{}, map[string]map[string]string{}
	for routes := range e.wanted {
		if _, is := e.w.routes[routes]; !is {
			continue // it may keep what it has
		}
		want[routes], got[routes] = map[string]string{"": all["RouteConfiguration"][routes]}, map[string]string{"": e.listed[envoy.RouteType][routes]}
		maps.Copy(got[routes], e.tables[routes])
		for name := range e.w.hosts {
			if strings.HasPrefix(name, routes+"/") {
				want[routes][name] = all["VirtualHost"][name]
			}
		}
	}
	if fmt.Sprint(want) != fmt.Sprint(got) {
		return fmt.Sprintf("has %v, want %v", got, want)
	}
	for name := range e.listed[envoy.VirtualHostType] {
		if routes := name[:max(strings.LastIndexByte(name, '/'), 0)]; !e.wanted[routes] {
			return fmt.Sprintf("still knows %s, whose route configuration it has given up", name)
		}
	}
	most := len(e.wanted)
	for routes := range e.wanted {
		known := map[string]bool{}
		for name := range e.w.hosts {
			known[name] = strings.HasPrefix(name, routes+"/")
		}
		for name := range e.listed[envoy.VirtualHostType] {
			known[name] = strings.HasPrefix(name, routes+"/")
		}
		for _, own := range known {
			if own {
				most++
			}
		}
	}
	if watched := e.w.c.store.WatchedOf(envoy.VirtualHostType); watched > most {
		return fmt.Sprintf("%d names are watched for virtual hosts, want %d at the most", watched, most)
	}
	return ""
}

// TestVirtualHostsModel: after any changes, subscriptions and reconnects a gateway has the virtual hosts of the route configurations
// that it subscribes to, and the store watches nothing beyond them.
func TestVirtualHostsModel(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *seeds
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		t.Run(fmt.Sprint("seed=", n), func(t *testing.T) {
			t.Parallel()
			edgeModel(t, n)
		})
	}
}

func edgeModel(t *testing.T, seed uint64) {
	w := &edgeWorld{
		t: t, c: startWith(t, server.Options{}), r: rand.New(rand.NewPCG(seed, 7)), routes: map[string]int{}, hosts: map[string]int{},
	}
	w.c.ResumeFor(5 * time.Millisecond)
	w.c.set(t, owned("shop/one", listener("l"))...)
	e := &edgeProxy{w: w, wanted: map[string]bool{}, tables: map[string]map[string]string{}, listed: map[string]map[string]string{
		envoy.ClusterType: {}, envoy.ListenerType: {}, envoy.RouteType: {}, envoy.VirtualHostType: {},
	}}
	e.connect()
	right := func() {
		t.Helper()
		for deadline := time.Now().Add(2 * time.Second); ; time.Sleep(time.Millisecond) {
			e.settle()
			if diff := e.differs(); diff == "" {
				return
			} else if time.Now().After(deadline) {
				w.fail("%s", diff)
			}
		}
	}
	for range steps {
		routes := fmt.Sprint("r", w.r.IntN(3))
		switch n := w.r.IntN(100); {
		case n < 30:
			w.change()
		case n < 55:
			e.receive()
		case n < 75:
			e.ack()
		case n < 83:
			e.subscribe(routes)
		case n < 88:
			e.unsubscribe(routes)
			if w.r.IntN(2) == 0 {
				e.subscribe(routes)
			}
		case n < 92:
			e.connect()
		case n < 95:
			right()
		}
	}
	right()
	for routes := range e.wanted {
		e.unsubscribe(routes)
	}
	right()
	e.p.close()
	await(t, "nothing is watched", func() bool {
		names, everything := w.c.store.Watched()
		return names+everything == 0
	})
}
