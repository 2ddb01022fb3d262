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

// PlainText stands for the SPIFFE ID of an endpoint that has none.
const PlainText = "plain"

// Pods are all pods of the cluster. It is kept up to date pod by pod; nil stands for a mesh without
// identities.
type Pods struct {
	trustDomain string
	byKey       map[Key]*Pod
	byNamespace map[string]map[Key]*Pod
	byIP        map[netip.Addr][]*Pod // those with addresses of their own
	ranges      map[netip.Prefix]int  // of addresses of the mesh, with their number
}

// NewPods gives the index of some pods in a trust domain.
func NewPods(trustDomain string, pods ...*Pod) *Pods {
	p := &Pods{trustDomain: trustDomain, byKey: map[Key]*Pod{}, byNamespace: map[string]map[Key]*Pod{}, byIP: map[netip.Addr][]*Pod{}, ranges: map[netip.Prefix]int{}}
	for _, pod := range pods {
		p.Set(pod)
	}
	return p
}

// Set enters a pod in place of the one of its name.
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

// Delete takes a pod out.
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

// rangeOf is the range that an address counts for. Kubernetes mostly gives a node's pods a /24 or a /64, so
// a change of a pod seldom changes the ranges, which every sidecar has.
func rangeOf(ip netip.Addr) netip.Prefix {
	bits := 24
	if FamilyOf(ip) == IPv6 {
		bits = 64
	}
	return netip.PrefixFrom(ip, bits).Masked()
}

// Ranges hold all addresses of pods of the mesh, and some others, sorted.
func (p *Pods) Ranges() []netip.Prefix {
	return slices.SortedFunc(maps.Keys(p.ranges), netip.Prefix.Compare)
}

// In gives the pods of a namespace, in any order.
func (p *Pods) In(namespace string) iter.Seq[*Pod] { return maps.Values(p.byNamespace[namespace]) }

// Get gives a pod by name, nil if there is none.
func (p *Pods) Get(key Key) *Pod { return p.byKey[key] }

// IdentityAt is who answers at an address: PlainText where that is no pod of the mesh. While an address
// goes from one pod to the next both may be known. Then it is that of the one that stays; ok is false where that is not
// one alone and they differ.
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

// identityOf is who answers at an endpoint.
//
// It is never PlainText because something is not known yet: an endpoint that names a pod which is not here,
// or not with this UID and address, gives unknown, and gets no calls until the pod is here. The pod comes
// over another watch than the endpoint, often later; and an endpoint whose pod is gone is about to go.
// So does an address at which a pod of the mesh answers, where the endpoint names one that has no sidecar: it had the
// address before, or somebody says so.
// An address that is none of its meshed pod's, as of a second network, is wrong: nobody ends mTLS there
// whom we know.
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

// standing of what is known about an endpoint.
type standing int

const (
	known standing = iota
	unknown
	wrong
)

// Identities are the SPIFFE IDs of a Service's endpoints, sorted and without doubles; PlainText is left out.
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

// PodRefs are the pods that slices name, and PodAddrs the addresses that they have without naming a pod of the mesh: when
// one of them changes, or a pod at one of them, the endpoints are to be built again.
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

// PodAddrs gives addresses; see PodRefs.
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
