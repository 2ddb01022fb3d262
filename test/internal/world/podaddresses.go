package world

import (
	"iter"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// pods are who answers at which address, and those of which sidecars want to know.
type pods struct {
	*ControlPlane
	made *server.Made

	mu         sync.Mutex
	identities map[netip.AddrPort]string
	// ranges are addresses that are all of one identity.
	ranges map[netip.Prefix]string
	wanted map[envoy.ID]bool
}

func newPods(c *ControlPlane) *pods {
	p := &pods{ControlPlane: c, wanted: map[envoy.ID]bool{}}
	p.made = c.store.Made(func(id envoy.ID) bool {
		_, ok := sds.Address(id.Name)
		return ok && id.Type == envoy.PodAddressType
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

// make publishes what has come to be wanted.
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
	return p.publish(slices.Values(wanted), unwanted)
}

// again publishes all that is wanted.
func (p *pods) again() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.publish(maps.Keys(p.wanted), nil)
}

// publish says who is at addresses. p.mu is held.
func (p *pods) publish(wanted iter.Seq[envoy.ID], unwanted []envoy.ID) error {
	change := server.Change{Remove: unwanted}
	for id := range wanted {
		addr, _ := sds.Address(id.Name)
		if identity := p.identityAt(addr); identity != "" {
			change.Set = append(change.Set, envoy.PodAddress(addr, identity))
		} else {
			change.Remove = append(change.Remove, id)
		}
	}
	_, err := p.store.Apply(change)
	return err
}

// identityAt is the empty string while it is not known. p.mu is held.
func (p *pods) identityAt(addr netip.AddrPort) string {
	if identity, ok := p.identities[addr]; ok {
		return identity
	}
	for r, identity := range p.ranges {
		if r.Contains(addr.Addr()) {
			return identity
		}
	}
	return mesh.PlainText
}

// SetPods tells who answers at addresses of pods, PlainText at all others. Of the empty string it is not known.
func (c *ControlPlane) SetPods(identities map[netip.AddrPort]string) error {
	return c.SetRanges(nil, identities)
}

// SetRanges is SetPods with ranges of which all addresses are of one identity.
func (c *ControlPlane) SetRanges(of map[netip.Prefix]string, identities map[netip.AddrPort]string) error {
	c.pods.mu.Lock()
	c.pods.identities, c.pods.ranges = maps.Clone(identities), maps.Clone(of)
	c.pods.mu.Unlock()
	ranges := map[netip.Prefix]bool{}
	for r := range of {
		ranges[r] = true
	}
	for addr := range identities {
		ranges[netip.PrefixFrom(addr.Addr(), addr.Addr().BitLen())] = true
	}
	sorted := slices.SortedFunc(maps.Keys(ranges), netip.Prefix.Compare)
	if _, err := c.store.Apply(server.Change{
		Set: envoy.SecureOutboundListeners(envoy.NewProtocolTable(c.models...), serviceCIDRs, sorted, c.cfg),
	}); err != nil {
		return err
	}
	return c.pods.again()
}

// Asked is the number of addresses of pods that sidecars ask for.
func (c *ControlPlane) Asked() int {
	c.pods.mu.Lock()
	defer c.pods.mu.Unlock()
	return len(c.pods.wanted)
}

// Wanted reports whether some sidecar has asked for an address of a pod.
func (c *ControlPlane) Wanted(addr netip.AddrPort) bool {
	c.pods.mu.Lock()
	defer c.pods.mu.Unlock()
	return c.pods.wanted[envoy.ID{Type: envoy.PodAddressType, Name: sds.AddressName(addr)}]
}
