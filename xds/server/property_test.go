package server_test

import (
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

var (
	seed  = flag.Uint64("seed", 0, "run TestModel with this seed alone")
	seeds = flag.Uint64("seeds", 6, "how many seeds TestModel runs with")
)

const (
	services = 8   // in the model mesh
	steps    = 600 // of one run
)

// allAnswers is how often a demand is answered on one stream.
var allAnswers = 1 + len(server.Repeats())

// world is a store that changes at random, and what it held at each time (epoch).
type world struct {
	t       *testing.T
	c       *control
	r       *rand.Rand
	epoch   int
	current state
	history []state
	ahead   server.PreloadBounds
	// called are the destinations that some sidecar has asked for.
	called map[string]bool
	// touched counts the times a listener changed in a way that its content does not show.
	touched map[string]int
	log     []string
	// made has the clusters that sidecars want made, making their current versions.
	made   *server.OnDemand
	making map[string]int
}

// state is what there is: of each Service, by name.
type state map[string]modelService

type modelService struct {
	number  int
	changed int // counts changes of the cluster
	weight  uint32
	lazy    bool
	targets []string // the clusters of its route
	epoch   int      // in which the route became this
}

func (w *world) fail(format string, args ...any) {
	w.t.Helper()
	w.t.Fatalf("%s\n-- the last of what happened:\n%s", fmt.Sprintf(format, args...), strings.Join(w.log[max(0, len(w.log)-40):], "\n"))
}

func (w *world) note(format string, args ...any) {
	w.log = append(w.log, fmt.Sprintf("%4d  ", w.epoch)+fmt.Sprintf(format, args...))
}

func serviceName(i int) string { return fmt.Sprint("s", i) }
func address(i int) string     { return fmt.Sprintf("10.0.0.%d:80", i) }

func namespaceOf(number int) string { return []string{"shop", "bank"}[number%2] }

func (s modelService) resources() []envoy.Resource {
	name := serviceName(s.number)
	route := routeTo(name, s.targets...)
	route.Message.(*routev3.RouteConfiguration).VirtualHosts[0].Name = fmt.Sprint(s.epoch)
	usual := []envoy.Resource{clusterWith(name, name, fmt.Sprint(s.changed)), route}
	if s.lazy {
		usual = lazy(usual...)
	}
	return in(namespaceOf(s.number), append(usual, cluster(address(s.number), name), endpoints(name, s.weight))...)
}

// step changes up to three Services at once.
func (w *world) step() {
	w.epoch++
	next := maps.Clone(w.current)
	var change envoy.Change
	for range 1 + w.r.IntN(3) {
		i := w.r.IntN(services)
		name := serviceName(i)
		s, is := next[name]
		what := w.r.IntN(6)
		switch {
		case !is:
			s = modelService{number: i, targets: []string{name}, epoch: w.epoch}
		case what == 0:
			delete(next, name)
			continue
		case what == 1:
			s.targets, s.epoch = []string{name}, w.epoch
			for range w.r.IntN(3) {
				s.targets = append(s.targets, serviceName(w.r.IntN(services)))
			}
			if w.r.IntN(3) == 0 {
				s.targets = s.targets[len(s.targets)-1:] // perhaps not even its own
			}
		case what == 2:
			s.lazy = !s.lazy
		case what == 3:
			s.changed++
		default:
			s.weight++
		}
		next[name] = s
	}
	for name, s := range w.current {
		if _, stays := next[name]; !stays {
			change.Remove = append(change.Remove, ids(s.resources())...)
		}
	}
	for _, s := range next {
		change.Set = append(change.Set, s.resources()...)
	}
	switch l := listener(fmt.Sprint("l", w.r.IntN(3))); w.r.IntN(20) {
	case 0, 1:
		change.Set = append(change.Set, l)
		w.touched[l.Name]++
	case 2:
		change.Remove = append(change.Remove, l.ID())
	}
	w.current = next
	w.history = append(w.history, next)
	changed, err := w.c.store.Apply(change)
	if err != nil {
		w.fail("%v", err)
	}
	for _, id := range changed {
		_, is := next[id.Name]
		w.note("changed %s %s, is %v, to %v", shortName(id.Type), id.Name, is, next[id.Name].targets)
	}
}

// make makes the clusters that are wanted, if all is set; else it also changes some, or does not know them for a while.
func (w *world) make(all bool) {
	wanted, unwanted := w.made.Take()
	change := envoy.Change{Remove: unwanted}
	for _, id := range unwanted {
		delete(w.making, id.Name)
	}
	for _, id := range wanted {
		w.making[id.Name]++
	}
	for _, name := range slices.Sorted(maps.Keys(w.making)) {
		r := made(name, fmt.Sprint("v", w.making[name]))
		switch what := w.r.IntN(4); {
		case !all && what == 0:
			change.Remove = append(change.Remove, r.ID())
			continue
		case !all && what == 1:
			w.making[name]++
			r = made(name, fmt.Sprint("v", w.making[name]))
		}
		change.Set = append(change.Set, r)
	}
	changed, err := w.c.store.Apply(change)
	if err != nil {
		w.fail("%v", err)
	}
	for _, id := range changed {
		w.note("made %s %d", id.Name, w.making[id.Name])
	}
}

// existed reports whether there was such a cluster, all the time since an epoch.
func (w *world) existed(cluster string, since int) bool {
	return !slices.ContainsFunc(w.history[since:], func(s state) bool { _, is := s[cluster]; return !is })
}

// mayPreload reports whether a scope may be sent to a sidecar that has not asked for it: the Service was there at some time
// since an epoch, and the bounds let it be sent ahead, or a sidecar of the same workload has asked for it.
func (w *world) mayPreload(destination string, since int) bool {
	for _, state := range w.history[since:] {
		s, is := state[destination]
		if is && (w.called[destination] || w.ahead.WholeMesh > 0 || w.ahead.Namespace > 0 && namespaceOf(s.number) == "shop") {
			return true
		}
	}
	return false
}

// dangled reports whether at any time since an epoch the route of a Service referred to a cluster that did
// not exist.
func (w *world) dangled(route, cluster string, since int) bool {
	return slices.ContainsFunc(w.history[since:], func(s state) bool {
		_, is := s[cluster]
		return !is && slices.Contains(s[route].targets, cluster)
	})
}

// TestModel has model sidecars and a store do what they like, and looks at each response.
func TestModel(t *testing.T) {
	t.Parallel()
	first, last := uint64(1), *seeds
	if *seed != 0 {
		first, last = *seed, *seed
	}
	for n := first; n <= last; n++ {
		t.Run(fmt.Sprint("seed=", n), func(t *testing.T) {
			t.Parallel()
			model(t, n)
		})
	}
}

func model(t *testing.T, seed uint64) {
	r := rand.New(rand.NewPCG(seed, 0))
	ahead := []server.PreloadBounds{{}, {}, {Namespace: 3}, {WholeMesh: 5}, {WholeMesh: 100}}[r.IntN(5)]
	w := &world{
		t: t, c: startWith(t, server.Options{Preload: ahead}), r: r, ahead: ahead, called: map[string]bool{},
		current: state{}, history: []state{{}}, touched: map[string]int{}, making: map[string]int{},
	}
	w.made = w.c.store.OnDemand(isMade)
	w.c.set(t, base(), listener("l0"))
	for range 5 {
		w.step()
	}
	var sidecars []*sidecar
	for _, pod := range []string{"one", "two"} {
		n := node.Node{Namespace: "shop", Pod: pod, ServiceAccount: "default", Workload: "Deployment/web"}
		sidecars = append(sidecars, newSidecar(w, n.Proto()))
	}
	for range steps {
		s := sidecars[r.IntN(len(sidecars))]
		switch n := r.IntN(100); {
		case n < 22:
			w.step()
		case n < 25:
			w.make(false)
		case n < 55:
			s.receive(200 * time.Microsecond) // or chance goes on without it
		case n < 75:
			s.ack(r)
		case n < 87:
			s.call(r)
		case n < 90:
			s.askLate(r)
		case n < 95:
			s.settle(r)
		case seed%2 == 1 && len(s.cold) == 0 && r.IntN(3) == 0: // the server takes its time with a proxy that comes back
			// Envoy that is cut off while clusters warm asks for clusters only when they are; that is not modelled.
			w.note("%s reconnects", s.n.Id)
			s.connect()
		}
	}
	for _, s := range sidecars {
		for len(s.late) > 0 {
			s.askLate(r)
		}
		// A server may take its time to remove what is gone.
		for deadline := time.Now().Add(2 * time.Second); ; {
			w.make(true)
			s.settle(r)
			if diff := s.differs(); len(diff) == 0 {
				break
			} else if time.Now().After(deadline) {
				w.fail("%s: %s", s.n.Id, strings.Join(diff, "\n"))
			}
			time.Sleep(10 * time.Millisecond)
		}
		// Each demand is answered, and as often as it must be. Nothing else comes with the repetitions.
		for deadline := time.Now().Add(patience); !s.allAnswered(); s.receive(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				w.fail("%s: answers %v, but calls to %v wait", s.n.Id, s.answers, s.waiting)
			}
		}
		s.settle(r)
		if diff := s.differs(); len(diff) > 0 {
			w.fail("%s, after all answers: %s", s.n.Id, strings.Join(diff, "\n"))
		}
	}
}

func (s *sidecar) allAnswered() bool {
	for destination := range s.asked {
		if s.answers[destination] < allAnswers {
			return false
		}
	}
	return len(s.waiting) == 0
}

// differs returns the differences between a settled sidecar and the store, for everything that it holds or must hold.
func (s *sidecar) differs() []string {
	var out []string
	differs := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	all := s.w.c.versions(s.w.t)
	is := func(typeURL, name, version string) bool {
		return all[shortName(typeURL)][name] == version
	}
	exists := func(typeURL, name string) bool { return all[shortName(typeURL)][name] != "" }
	for name, c := range s.clusters {
		empty := s.watched[envoy.ClusterType][name] && !exists(envoy.ClusterType, name) && c.endpoints == ""
		if !is(envoy.ClusterType, name, c.version) && !empty {
			differs("cluster %q is of version %q", name, c.version)
		}
	}
	for name := range s.watched[envoy.ClusterType] {
		if s.clusters[name] == nil {
			differs("there is no cluster %q", name)
		}
	}
	for name, version := range s.scopes {
		if version != server.ScopeVersion(name) {
			differs("scope %q is of version %q", name, version)
		}
		if name != "ask" && !s.asked[name] && !exists(envoy.RouteType, name) {
			differs("there is a scope %q, without routes", name)
		}
		if name != "ask" && !s.watched[envoy.RouteType][name] {
			differs("scope %q has no routes", name)
		}
	}
	if s.scopes["ask"] == "" {
		differs("there is no scope to ask by")
	}
	for destination := range s.asked {
		if s.scopes[destination] == "" {
			differs("there is no scope %q, which was asked for", destination)
		}
	}
	for name, service := range s.w.current {
		if s.w.ahead.WholeMesh >= services && s.scopes[name] == "" && !service.lazy {
			differs("there is no scope %q, which is sent ahead", name)
		}
	}
	for name := range s.watched[envoy.RouteType] {
		route := s.routes[name]
		if exists(envoy.RouteType, name) && !is(envoy.RouteType, name, route.version) {
			differs("route %q is %+v", name, route)
		}
		if !exists(envoy.RouteType, name) && !route.none {
			differs("route %q, which does not exist, is %+v", name, route)
		}
		for _, id := range route.clusters {
			if c := s.clusters[id.Name]; exists(id.Type, id.Name) && (c == nil || !c.warm || c.coming) {
				differs("route %q has no cluster %q", name, id.Name)
			}
		}
	}
	for typeURL, held := range s.others {
		for name, version := range held {
			if !is(typeURL, name, version) {
				differs("%s %q is of version %q", typeURL, name, version)
			}
		}
	}
	for name := range all[shortName(envoy.ListenerType)] {
		if s.others[envoy.ListenerType][name] == "" {
			differs("there is no listener %q", name)
		}
	}
	for name := range s.watched[envoy.EndpointType] {
		if exists(envoy.EndpointType, name) && s.others[envoy.EndpointType][name] == "" {
			differs("there are no endpoints %q", name)
		}
	}
	return out
}
