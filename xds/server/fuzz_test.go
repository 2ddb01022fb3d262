package server

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/go-logr/logr"
	rpcstatus "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// alone is a stream without a network: requests are handed to it and its responses counted.
type alone struct {
	*stream
	responses int
}

func newAlone(bounds PreloadBounds) *alone {
	a := &alone{}
	n := node.Node{Namespace: "ns", Pod: "pod", Workload: "Deployment/web"}
	a.stream = newStream(n, New(Options{Store: NewStore(), Log: logr.Discard(), Preload: bounds}), func(*response) error {
		a.responses++
		return nil
	})
	return a
}

// tell does what run does with a request; nil for a change of the store alone.
func (a *alone) tell(req *discoveryv3.DeltaDiscoveryRequest) error {
	if req != nil {
		if err := a.request(req); err != nil {
			return err
		}
	}
	return a.advance()
}

// answer acknowledges, or refuses, everything that is not yet, and reports whether there was something.
func (a *alone) answer(refusal string) (bool, error) {
	some := false
	for typeURL, sub := range a.subs.byType {
		if sub.nonce == "" {
			continue
		}
		some = true
		req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResponseNonce: sub.nonce}
		if refusal != "" {
			req.ErrorDetail = &rpcstatus.Status{Message: refusal}
		}
		if err := a.tell(req); err != nil {
			return true, err
		}
	}
	return some, nil
}

// size counts all names that the stream keeps.
func (a *alone) size() int {
	n := len(a.pending.ids) + len(a.warming.endpoints) + len(a.warming.unacked)
	for _, s := range a.subs.byType {
		n += len(s.names) + len(s.needed) + len(s.sent) + len(s.dirty) + len(s.asked) + len(s.inFlight) + len(s.inFlightGone)
	}
	n += len(a.demands.asked) + len(a.demands.open) + len(a.demands.answered)
	for _, r := range a.demands.again {
		n += len(r.clusters)
	}
	return n
}

// everything of one name, in a namespace that not every proxy is sent.
func everything(name, content string) []envoy.Resource {
	out := []envoy.Resource{
		{Type: envoy.ClusterType, Message: &clusterv3.Cluster{Name: name, AltStatName: content, EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{ServiceName: name}}},
		{Type: envoy.EndpointType, Message: &endpointv3.ClusterLoadAssignment{ClusterName: name, NamedEndpoints: map[string]*endpointv3.Endpoint{content: {}}}},
		{Type: envoy.RouteType, Message: &routev3.RouteConfiguration{Name: name, RequestHeadersToRemove: []string{content}, VirtualHosts: []*routev3.VirtualHost{{
			Routes: []*routev3.Route{{Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: name}}}}},
		}}}},
		{Type: envoy.ListenerType, Message: &listenerv3.Listener{Name: name, StatPrefix: content}},
	}
	for i := range out {
		out[i].Name, out[i].Namespace = name, "ns"
	}
	return out
}

func gone(resources []envoy.Resource) []envoy.ID {
	var out []envoy.ID
	for _, r := range resources {
		out = append(out, r.ID())
	}
	return out
}

var fuzzTypes = []string{
	envoy.ClusterType, envoy.EndpointType, envoy.RouteType, envoy.ScopedRouteType, envoy.ListenerType, "type.googleapis.com/other", "",
}

const fuzzNames = 7 // "*" among them

// FuzzRequests does whatever a client may do, in any order, while the store changes. Each step is two
// bytes: what, and to which names.
func FuzzRequests(f *testing.F) {
	step := func(what, typeURL, names int) []byte { return []byte{byte(what<<4 | typeURL), byte(names)} }
	script := func(steps ...[]byte) (out []byte) {
		for _, s := range steps {
			out = append(out, s...)
		}
		return out
	}
	f.Add(uint8(0), script(step(0, 0, 1), step(0, 3, 1), step(0, 2, 6), step(5, 0, 0), step(0, 1, 6), step(5, 1, 0), step(7, 0, 2), step(8, 0, 4)))
	f.Add(uint8(3), script(step(2, 0, 0xff), step(2, 3, 0xff), step(2, 2, 0x7f), step(3, 1, 0x7e), step(8, 0, 0xff), step(7, 0, 0xff), step(6, 0, 0), step(1, 0, 1)))
	f.Add(uint8(9), script(step(0, 5, 0x7f), step(0, 6, 0x7f), step(1, 5, 0x7f), step(4, 0, 0), step(9, 0, 3), step(7, 0, 3)))
	f.Add(uint8(0), script(step(10, 0, 0x7e), step(0, 3, 1), step(7, 0, 4), step(0, 2, 6), step(5, 0, 0), step(5, 3, 0), step(10, 0, 0x7e), step(8, 0, 4)))
	f.Fuzz(func(t *testing.T, ahead uint8, steps []byte) {
		a := newAlone(PreloadBounds{WholeMesh: int(ahead % 8), Namespace: int(ahead / 8 % 8)})
		apply := func(c envoy.Change) {
			if _, err := a.store.Apply(c); err != nil {
				t.Fatal(err)
			}
		}
		for ; len(steps) >= 2; steps = steps[2:] {
			what, typeURL := steps[0]>>4, fuzzTypes[int(steps[0]&15)%len(fuzzTypes)]
			var names []string
			for i := range fuzzNames {
				if steps[1]>>i&1 == 1 {
					names = append(names, []string{"*", "a", "b", "c", "d", "e", ""}[i])
				}
			}
			versions := map[string]string{}
			for _, name := range names {
				if e := a.lookup.entry(envoy.ID{Type: typeURL, Name: name}); e != nil && steps[1]>>7 == 1 {
					versions[name] = e.version
				} else {
					versions[name] = "1"
				}
			}
			nonce := ""
			if sub := a.subs.of(typeURL); sub != nil {
				nonce = sub.nonce
			}
			req := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL}
			switch what {
			case 0:
				req.ResourceNamesSubscribe = names
			case 1:
				req.ResourceNamesUnsubscribe = names
			case 2:
				req.InitialResourceVersions = versions
			case 3:
				req.InitialResourceVersions, req.ResourceNamesSubscribe = versions, names
			case 4:
				req.ResourceNamesSubscribe, req.ResourceNamesUnsubscribe, req.ResponseNonce = names, names, nonce
			case 5:
				req.ResponseNonce = nonce
			case 6:
				req.ResponseNonce, req.ErrorDetail = nonce, &rpcstatus.Status{Message: "a: no"}
			case 7, 8:
				var c envoy.Change
				for _, name := range names {
					if all := everything(name, fmt.Sprint(what, len(steps))); what == 7 {
						c.Set = append(c.Set, all...)
					} else {
						c.Remove = append(c.Remove, gone(all)...)
					}
				}
				apply(c)
				req = nil
			case 9:
				var c envoy.Change
				for _, name := range names {
					c.Set = append(c.Set, everything(name, "")...)
				}
				for i := range c.Set {
					c.Set[i].Lazy = true
				}
				apply(c)
				req = nil
			case 10:
				req.TypeUrl = envoy.ClusterType
				for _, name := range names {
					if name != wildcard {
						req.ResourceNamesSubscribe = append(req.ResourceNamesSubscribe, envoy.Demand(name))
					}
				}
			default:
				req.ResponseNonce = strconv.Itoa(int(steps[1])) // one that was, or will be
			}
			if err := a.tell(req); err != nil {
				t.Fatal(err)
			}
			// Each name may stand in each of the seven collections of each type, in three of the stream, and in five of demands.
			if n, most := a.size(), fuzzNames*len(fuzzTypes)*10; n > most {
				t.Fatalf("%d names kept, want %d at most", n, most)
			}
		}
		// A client that acknowledges everything is left in peace after a while.
		settle := func() {
			for round := 0; ; round++ {
				more, err := a.answer("")
				if err != nil {
					t.Fatal(err)
				}
				if !more {
					break
				}
				if round > 50 {
					t.Fatal("there is always something to acknowledge")
				}
			}
		}
		settle()
		// One that then takes all scopes, and asks for their routes, has an answer to each of its demands, whatever it did before.
		a.resumption.end()
		for _, req := range []*discoveryv3.DeltaDiscoveryRequest{
			{TypeUrl: envoy.ScopedRouteType, ResourceNamesSubscribe: []string{wildcard}},
			{TypeUrl: envoy.RouteType, ResourceNamesSubscribe: a.demands.asked.sorted()},
		} {
			if err := a.tell(req); err != nil {
				t.Fatal(err)
			}
			settle()
		}
		a.warming.giveUp() // it has asked for no endpoints
		if err := a.tell(nil); err != nil {
			t.Fatal(err)
		}
		settle()
		if open := a.demands.open.sorted(); len(open) > 0 {
			t.Fatalf("demands %q are not answered", open)
		}
		a.end()
		if names, all := a.store.Watched(); names > 0 || all > 0 {
			t.Fatalf("%d names are watched, and %d times more than names", names, all)
		}
	})
}

// What is kept of a proxy that answers nothing, or refuses everything, does not grow with the changes.
func TestStateIsBounded(t *testing.T) {
	const names = 20
	for name, answer := range map[string]func(a *alone) error{
		"acknowledges nothing": func(*alone) error { return nil },
		"refuses everything": func(a *alone) error {
			_, err := a.answer("no")
			return err
		},
		"acknowledges everything": func(a *alone) error {
			_, err := a.answer("")
			return err
		},
	} {
		for _, ahead := range []PreloadBounds{{}, {WholeMesh: names}} {
			t.Run(fmt.Sprint(name, ahead), func(t *testing.T) {
				a := newAlone(ahead)
				for _, req := range []*discoveryv3.DeltaDiscoveryRequest{
					{TypeUrl: envoy.ClusterType, ResourceNamesSubscribe: []string{wildcard, envoy.Demand("0"), envoy.Demand("none")}}, {TypeUrl: envoy.ScopedRouteType}, {TypeUrl: envoy.ListenerType},
					{TypeUrl: envoy.RouteType, ResourceNamesSubscribe: []string{"0", "1", "none"}},
					{TypeUrl: envoy.EndpointType, ResourceNamesSubscribe: []string{"0", "1", "none"}},
				} {
					if err := a.tell(req); err != nil {
						t.Fatal(err)
					}
				}
				most := 0
				for i := range 2000 {
					all := everything(strconv.Itoa(i%names), strconv.Itoa(i))
					c := envoy.Change{Set: all}
					if i/names%3 == 2 {
						c = envoy.Change{Remove: gone(all)}
					}
					if _, err := a.store.Apply(c); err != nil {
						t.Fatal(err)
					}
					// It asks for a scope again and again, which a sidecar does not.
					again := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: envoy.ClusterType, ResourceNamesSubscribe: []string{envoy.Demand("0")}}
					if err := errors.Join(a.tell(nil), a.tell(again), answer(a)); err != nil {
						t.Fatal(err)
					}
					switch n := a.size(); {
					case i < 500:
						most = max(most, n)
					case n > most+names:
						t.Fatalf("change %d: %d names kept, %d at most before", i, n, most)
					}
				}
				if limit := 10 * names * len(a.subs.byType); most > limit {
					t.Errorf("%d names kept, want %d at most", most, limit)
				}
			})
		}
	}
}
