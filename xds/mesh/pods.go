package mesh

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// PlainText is the identity of an endpoint without a SPIFFE ID.
const PlainText = "plain"

// Pods is an index of all pods of the cluster. It is nil in a mesh without identities.
type Pods struct {
	trustDomain string
	byKey       map[Key]*Pod
	byNamespace map[string]map[Key]*Pod
	byIP        map[netip.Addr][]*Pod // those with addresses of their own
	ranges      map[netip.Prefix]int  // of addresses of the mesh, with their number
}

// NewPods returns the index of some pods in a trust domain.
func NewPods(trustDomain string, pods ...*Pod) *Pods {
	p := &Pods{trustDomain: trustDomain, byKey: map[Key]*Pod{}, byNamespace: map[string]map[Key]*Pod{}, byIP: map[netip.Addr][]*Pod{}, ranges: map[netip.Prefix]int{}}
	for _, pod := range pods {
		p.Set(pod)
	}
	return p
}

// Set adds a pod, or replaces the pod of this name.
func (p *Pods) Set(pod *Pod) {
	p.Delete(pod.Key)
	p.byKey[pod.Key] = pod
	if p.byNamespace[pod.Namespace] == nil {
		p.byNamespace[pod.Namespace] = map[Key]*Pod{}
	}
	p.byNamespace[pod.Namespace][pod.Key] = pod
	if pod.HostNetwork {
		return
	}
	for _, ip := range pod.IPs {
		p.byIP[ip] = append(p.byIP[ip], pod)
		if pod.Meshed {
			p.ranges[rangeOf(ip)]++
		}
	}
}

// Delete removes a pod.
func (p *Pods) Delete(key Key) {
	pod := p.byKey[key]
	if pod == nil {
		return
	}
	delete(p.byKey, key)
	if delete(p.byNamespace[key.Namespace], key); len(p.byNamespace[key.Namespace]) == 0 {
		delete(p.byNamespace, key.Namespace)
	}
	if pod.HostNetwork {
		return
	}
	for _, ip := range pod.IPs {
		left := slices.DeleteFunc(p.byIP[ip], func(o *Pod) bool { return o == pod })
		if p.byIP[ip] = left; len(left) == 0 {
			delete(p.byIP, ip)
		}
		if r := rangeOf(ip); pod.Meshed {
			if p.ranges[r]--; p.ranges[r] == 0 {
				delete(p.ranges, r)
			}
		}
	}
}

// rangeOf returns the range that an address belongs to. The pods of a node usually share a /24 or a /64, so a change of a
// pod seldom changes the ranges, which every sidecar has.
func rangeOf(ip netip.Addr) netip.Prefix {
	bits := 24
	if FamilyOf(ip) == IPv6 {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// Ranges returns ranges that contain all addresses of pods of the mesh, and some other addresses, sorted.
func (p *Pods) Ranges() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(p.ranges), netip.Prefix.Compare)
}

// In returns the pods of a namespace, in no order.
func (p *Pods) In(namespace string) iter.Seq[*Pod] { return maps.Values(p.byNamespace[namespace]) }

// Get returns a pod by name, or nil.
func (p *Pods) Get(key Key) *Pod { return p.byKey[key] }

// IdentityAt returns who answers at an address, PlainText if the address belongs to no pod of the mesh. While an address
// moves from one pod to another, both may be known. Then pods that are not terminating win; ok is false if several pods
// remain and their identities differ.
func (p *Pods) IdentityAt(addr netip.AddrPort) (identity string, ok bool) {
	at := p.byIP[addr.Addr()]
	stays := func(pod *Pod) bool { return !pod.Terminating }
	all := !slices.ContainsFunc(at, stays)
	for _, pod := range at {
		if !all && pod.Terminating {
			continue
		}
		id := pod.identityAt(p.trustDomain, addr.Port())
		if identity != "" && id != identity {
			return "", false
		}
		identity = id
	}
	return cmp.Or(identity, PlainText), true
}

// identityOf returns who answers at an endpoint.
//
// Missing knowledge never makes an endpoint PlainText. The endpoint is unknown, and gets no calls, in two cases:
//
//   - It names a pod that we do not have, or not with this UID and address. The pod comes over another watch than the
//     endpoint, often later. If the pod is gone, the endpoint will soon go, too.
//   - It names a pod without a sidecar, but a pod of the mesh has its address. Either the named pod had the address before,
//     or the endpoint is forged.
//
// The endpoint is wrong if its address is not one of its meshed pod's, for example an address in a second network: no
// sidecar that we know terminates mTLS there.
func (p *Pods) identityOf(slice *discoveryv1.EndpointSlice, ep discoveryv1.Endpoint, addr netip.AddrPort) (identity string, s standing) {
	ref := ep.TargetRef
	if ref == nil || ref.Kind != "Pod" {
		identity, ok := p.IdentityAt(addr)
		if !ok {
			return "", unknown
		}
		return identity, known
	}
	pod := p.byKey[podKey(slice, ref)]
	switch {
	case pod == nil, len(pod.IPs) == 0, ref.UID != "" && string(ref.UID) != pod.UID:
		return "", unknown
	case !pod.Meshed:
		if identity, ok := p.IdentityAt(addr); !ok || identity != PlainText {
			return "", unknown
		}
		return PlainText, known
	case slices.Contains(pod.IPs, addr.Addr()):
		return pod.identityAt(p.trustDomain, addr.Port()), known
	default:
		return "", wrong
	}
}

func podKey(slice *discoveryv1.EndpointSlice, ref *corev1.ObjectReference) Key {
	return Key{cmp.Or(ref.Namespace, slice.Namespace), ref.Name}
}

// standing says what we know about an endpoint.
type standing int

const (
	known standing = iota
	unknown
	wrong
)

// Identities returns the SPIFFE IDs of a Service's endpoints, sorted, each once, without PlainText.
// Service.Identities must hold all of them before the endpoints are published.
func Identities(endpoints map[EndpointsKey][]Endpoint) []string {
	var out []string
	for _, group := range endpoints {
		for _, e := range group {
			if e.Identity != "" && e.Identity != PlainText {
				out = append(out, e.Identity)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// PodRefs returns the pods that slices name. When one of these pods changes, the endpoints must be built again.
func PodRefs(endpointSlices []*discoveryv1.EndpointSlice) []Key {
	var out []Key
	for _, slice := range endpointSlices {
		for _, ep := range slice.Endpoints {
			if ref := ep.TargetRef; ref != nil && ref.Kind == "Pod" {
				out = append(out, podKey(slice, ref))
			}
		}
	}
	slices.SortFunc(out, Key.Compare)
	return slices.Compact(out)
}

// PodAddrs returns the addresses of endpoints that do not name a pod of the mesh. When a pod at one of these addresses
// changes, the endpoints must be built again.
func (p *Pods) PodAddrs(endpointSlices []*discoveryv1.EndpointSlice) []netip.Addr {
	var out []netip.Addr
	for _, slice := range endpointSlices {
		for _, ep := range slice.Endpoints {
			if ref := ep.TargetRef; ref != nil && ref.Kind == "Pod" {
				if pod := p.byKey[podKey(slice, ref)]; pod == nil || pod.Meshed {
					continue
				}
			}
			for _, address := range ep.Addresses {
				if ip, err := netip.ParseAddr(address); err == nil {
					out = append(out, ip)
				}
			}
		}
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}
