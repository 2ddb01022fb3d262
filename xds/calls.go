package xds

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"
	"k8s.io/apimachinery/pkg/util/sets"

	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
	"github.com/mizzen-mesh/mizzen/xds/server"
)

// podCalls is what calls to addresses of pods need, in a mesh with identities.
type podCalls struct {
	// made tells of which addresses sidecars want to know who is there; nil in a mesh without identities.
	made *server.Made
	// wanted are their ports, by address.
	wanted multimap[netip.Addr, uint16]
	// ranges are in the outbound listener that was built last.
	ranges    []netip.Prefix
	listeners []envoy.Resource
}

func newPodCalls(store *server.Store, pods *mesh.Pods) podCalls {
	if pods == nil {
		return podCalls{}
	}
	return podCalls{wanted: multimap[netip.Addr, uint16]{}, made: store.Made(func(id envoy.ID) bool {
		_, ok := sds.Address(id.Name)
		return ok && id.Type == envoy.PodAddressType
	})}
}

// changed is readable when other addresses are wanted.
func (p *podCalls) changed() <-chan struct{} {
	if p.made == nil {
		return nil
	}
	return p.made.Changed()
}

// takeWanted says who is at addresses that sidecars have come to want, and drops those that none wants any more.
func (c *Controller) takeWanted() {
	wanted, unwanted := c.calls.made.Take()
	change := server.Change{Remove: unwanted}
	for _, id := range wanted {
		addr, _ := sds.Address(id.Name)
		c.calls.wanted.insert(addr.Addr(), addr.Port())
		c.podAddress(addr, &change)
	}
	for _, id := range unwanted {
		addr, _ := sds.Address(id.Name)
		c.calls.wanted.delete(addr.Addr(), addr.Port())
	}
	c.apply(change)
}

// podAddress adds to the change who is at an address. While that is not known, there is nothing: who has been told keeps
// it, and who asks waits.
func (c *Controller) podAddress(addr netip.AddrPort, change *server.Change) {
	if identity, known := c.pods.IdentityAt(addr); known {
		change.Set = append(change.Set, envoy.PodAddress(addr, identity))
	} else {
		change.Remove = append(change.Remove, envoy.ID{Type: envoy.PodAddressType, Name: sds.AddressName(addr)})
	}
}

// withRanges builds the outbound listener with the ranges of pods. Every sidecar has it, so a range without pods stays in
// it until it changes for another reason: the next pods of a node mostly come to the same range.
func (p *podCalls) withRanges(now []netip.Prefix, build func([]netip.Prefix) []envoy.Resource) []envoy.Resource {
	if within(now, p.ranges) {
		same := func(a, b envoy.Resource) bool { return a.ID() == b.ID() && proto.Equal(a.Message, b.Message) }
		if slices.EqualFunc(build(p.ranges), p.listeners, same) {
			return p.listeners
		}
	}
	p.ranges, p.listeners = now, build(now)
	return p.listeners
}

// within reports whether all of a are in b.
func within[T comparable](a, b []T) bool {
	return sets.New(b...).HasAll(a...)
}
