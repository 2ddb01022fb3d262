package translate

import (
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
)

// addresses is the state for calls to addresses of pods, in a mesh with identities.
type addresses struct {
	// wanted are the ports whose identity sidecars ask for, by address.
	wanted multimap[netip.Addr, uint16]
	// ranges are those in the outbound listener that was built last.
	ranges    []netip.Prefix
	listeners []envoy.Resource
}

// Ask makes Urgent return the identity at an address, now and after each change, until Unask.
func (t *Translator) Ask(addr netip.AddrPort) {
	if t.pods == nil {
		return
	}
	t.addresses.wanted.insert(addr.Addr(), addr.Port())
	t.changed.asked.Insert(addr)
	t.changed.unasked.Delete(addr)
}

// Unask ends Ask.
func (t *Translator) Unask(addr netip.AddrPort) {
	t.addresses.wanted.delete(addr.Addr(), addr.Port())
	t.changed.unasked.Insert(addr)
	t.changed.asked.Delete(addr)
}

// podAddresses adds the identities at addresses that are asked for, and holds the outbound listener if a pod is outside of its
// ranges.
func (t *Translator) podAddresses(r *Result) {
	for ip := range t.changed.addrs {
		for port := range t.addresses.wanted[ip] {
			t.changed.asked.Insert(netip.AddrPortFrom(ip, port))
		}
	}
	for addr := range t.changed.asked {
		t.podAddress(addr, r)
	}
	for addr := range t.changed.unasked {
		r.Change.Remove = append(r.Change.Remove, envoy.ID{Type: envoy.PodAddressType, Name: sds.AddressName(addr)})
	}
	if len(t.changed.addrs) > 0 && !within(t.pods.Ranges(), t.addresses.ranges) {
		t.holdListener()
	}
}

// podAddress adds the identity at an address. While the identity is unknown it removes the resource: a proxy that has the
// resource keeps it, and one that asks waits.
func (t *Translator) podAddress(addr netip.AddrPort, r *Result) {
	if identity, known := t.pods.IdentityAt(addr); known {
		r.Change.Set = append(r.Change.Set, envoy.PodAddress(addr, identity))
	} else {
		r.Change.Remove = append(r.Change.Remove, envoy.ID{Type: envoy.PodAddressType, Name: sds.AddressName(addr)})
	}
}

// withRanges builds the outbound listener with the ranges of pods. Every sidecar has it, so a range without pods stays in
// it until it changes for another reason: the next pods of a node mostly come to the same range.
func (a *addresses) withRanges(now []netip.Prefix, build func([]netip.Prefix) []envoy.Resource) []envoy.Resource {
	if within(now, a.ranges) {
		same := func(a, b envoy.Resource) bool { return a.ID() == b.ID() && proto.Equal(a.Message, b.Message) }
		built := build(a.ranges)
		if slices.EqualFunc(built, a.listeners, same) {
			return a.listeners
		}
		if slices.Equal(now, a.ranges) {
			a.listeners = built
			return built
		}
	}
	a.ranges, a.listeners = now, build(now)
	return a.listeners
}
