package server

import (
	"maps"
	"slices"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/go-logr/logr"

	"github.com/mizzen-mesh/mizzen/internal/node"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// parts are those of a stream, on a store of their own and without the stream.
type parts struct {
	t       *testing.T
	store   *Store
	usage   *usage
	node    node.Node
	pending pending
	watches watches
	preload preload
	lookup  lookup
	subs    subscriptions
	warming warming
	demands demands
}

// newParts returns the parts of a proxy in the namespace "ns", which is sent nothing ahead.
func newParts(t *testing.T) *parts {
	p := &parts{t: t, store: NewStore(), usage: newUsage(), pending: newPending(), warming: newWarming()}
	p.node = node.Node{Namespace: "ns", Pod: "pod", Workload: "Deployment/web"}
	p.watches = watches{store: p.store, watcher: &p.pending, metrics: newMetrics(nil, nil), log: logr.Discard()}
	p.preload = preload{store: p.store, usage: p.usage, node: &p.node}
	p.demands = newDemands(p.store)
	p.lookup = lookup{store: p.store, node: &p.node, watches: &p.watches, demands: &p.demands}
	p.subs = subscriptions{byType: map[string]*subscription{}, watches: &p.watches, lookup: &p.lookup}
	p.demands.subs, p.demands.preload = &p.subs, &p.preload
	return p
}

// set publishes everything of some names, of the namespace "bank".
func (p *parts) set(content string, names ...string) {
	p.t.Helper()
	var c envoy.Change
	for _, name := range names {
		c.Set = append(c.Set, everything(name, content)...)
	}
	for i := range c.Set {
		c.Set[i].Namespace = "bank"
	}
	p.apply(c)
}

func (p *parts) apply(c envoy.Change) {
	p.t.Helper()
	if _, err := p.store.Apply(c); err != nil {
		p.t.Fatal(err)
	}
}

func (p *parts) entry(typeURL, name string) *entry {
	p.t.Helper()
	e := p.lookup.entry(envoy.ID{Type: typeURL, Name: name})
	if e == nil {
		p.t.Fatalf("no %s %q", shortType(typeURL), name)
	}
	return e
}

// changed returns the names of clusters that are reported to the proxy.
func (p *parts) changed() []string {
	var names []string
	for id := range p.pending.take(p.store) {
		if id.Type == envoy.ClusterType {
			names = append(names, id.Name)
		}
	}
	slices.Sort(names)
	return names
}

func inbound(class string) envoy.Resource {
	return envoy.Resource{
		Type: envoy.ListenerType, Name: envoy.InboundListener.Name, Class: class,
		Message: &listenerv3.Listener{Name: envoy.InboundListener.Name, StatPrefix: class},
	}
}

func namesOf(set []*entry) []string {
	var names []string
	for _, e := range set {
		names = append(names, e.name)
	}
	return names
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
