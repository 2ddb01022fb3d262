package world

import (
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// pods are who answers at which address, and the clusters that sidecars want of them.
type pods struct {
	*ControlPlane
	made *server.Made

	mu         sync.Mutex
	identities map[netip.AddrPort]string
	wanted     map[envoy.ID]bool
}

func newPods(c *ControlPlane) *pods {
	p := &pods{ControlPlane: c, wanted: map[envoy.ID]bool{}}
	p.made = c.store.Made(func(id envoy.ID) bool {
		_, ok := envoy.PodAddress(id.Name)
		return ok && id.Type == envoy.ClusterType
	})
	go func() { // as long as the program
		for range p.made.Changed() {
			if err := p.make(); err != nil {
				panic(err) // of messages that are made here
			}
		}
	}()
	return p
}

// make publishes the clusters that are wanted.
func (p *pods) make() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	wanted, unwanted := p.made.Take()
	for _, id := range wanted {
		p.wanted[id] = true
	}
	for _, id := range unwanted {
		delete(p.wanted, id)
	}
	change := server.Change{Remove: unwanted}
	for id := range p.wanted {
		addr, _ := envoy.PodAddress(id.Name)
		identity, ok := p.identities[addr]
		switch {
		case !ok:
			identity = mesh.PlainText
		case identity == "":
			change.Remove = append(change.Remove, id)
			continue
		}
		change.Set = append(change.Set, envoy.PodCluster(addr, identity, p.cfg))
	}
	_, err := p.store.Apply(change)
	return err
}

// SetPods tells who answers at addresses of pods, PlainText at all others. Of the empty string it is not known.
func (c *ControlPlane) SetPods(identities map[netip.AddrPort]string) error {
	c.pods.mu.Lock()
	c.pods.identities = maps.Clone(identities)
	c.pods.mu.Unlock()
	ranges := map[netip.Prefix]bool{}
	for addr := range identities {
		ranges[netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen())] = true
	}
	sorted := slices.SortedFunc(maps.Keys(ranges), netip.Prefix.Compare)
	if _, err := c.store.Apply(server.Change{
		Set: envoy.SecureOutboundListeners(envoy.NewProtocolTable(c.models...), serviceCIDRs, sorted, c.cfg),
	}); err != nil {
		return err
	}
	return c.pods.make()
}

// Wanted reports whether some sidecar has asked for an address of a pod.
func (c *ControlPlane) Wanted(addr netip.AddrPort) bool {
	c.pods.mu.Lock()
	defer c.pods.mu.Unlock()
	return c.pods.wanted[envoy.ID{Type: envoy.ClusterType, Name: envoy.PodName(addr)}]
}
