package mesh

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
)

// EndpointsKey names the endpoints of one Service port in one IP family.
type EndpointsKey struct {
	Service Key
	Port    uint16
	Family  Family
	UDP     bool
}

func (k EndpointsKey) String() string {
	text := fmt.Sprintf("%s/%d/%s", k.Service, k.Port, k.Family)
	if k.UDP {
		text += "/udp"
	}
	return text
}

// Endpoints returns the endpoints of every port and family of a Service, from its EndpointSlices. Each port and family has
// an entry, which is empty if no endpoint can serve: without an entry a proxy would wait. Endpoints are sorted, each once.
// An address or port that cannot be read is a problem, and only that one is left out.
//
// As in kube-proxy, an endpoint is chosen while it is ready. If none is ready, those that terminate and still serve are
// chosen, so that the last pods of a rollout answer until they are gone. If calls stay on the caller's node, the choice is
// made for each node. See https://kubernetes.io/docs/concepts/services-networking/endpoint-slices/#conditions
//
// If pods is not nil, each endpoint has an identity. An endpoint whose identity is not known yet is left out (identityOf).
func Endpoints(svc *Service, endpointSlices []*discoveryv1.EndpointSlice, pods *Pods) (map[EndpointsKey][]Endpoint, []Problem) {
	var problems []Problem
	groups := map[EndpointsKey]*candidates{}
	for _, family := range svc.Families() {
		for _, p := range svc.Ports {
			groups[EndpointsKey{Service: svc.Key, Port: p.Number, Family: family}] = &candidates{}
		}
		if svc.Gateways { // sidecars do not carry UDP
			for _, p := range svc.UDP {
				groups[EndpointsKey{Service: svc.Key, Port: p.Number, Family: family, UDP: true}] = &candidates{}
			}
		}
	}
	for _, slice := range endpointSlices {
		family, ok := sliceFamily(slice.AddressType)
		if !ok {
			continue
		}
		problems = append(problems, addSlice(groups, svc, slice, family, pods)...)
	}
	out := make(map[EndpointsKey][]Endpoint, len(groups))
	for key, c := range groups {
		if svc.LocalOnly {
			out[key] = c.chooseByNode()
		} else {
			out[key] = c.choose()
		}
	}
	return out, problems
}

func sliceFamily(t discoveryv1.AddressType) (Family, bool) {
	switch t {
	case discoveryv1.AddressTypeIPv4:
		return IPv4, true
	case discoveryv1.AddressTypeIPv6:
		return IPv6, true
	default: // FQDN, which Kubernetes itself does not route
		return "", false
	}
}

// addSlice puts the endpoints of one slice into the groups of the ports it serves.
func addSlice(groups map[EndpointsKey]*candidates, svc *Service, slice *discoveryv1.EndpointSlice, family Family, pods *Pods) []Problem {
	problem := func(field, value, allowed string) Problem {
		return Problem{
			Object: ID{KindEndpointSlice, Key{slice.Namespace, slice.Name}}, UID: string(slice.UID), Reason: "MalformedEndpointSlice",
			Field: field, Value: value, Allowed: allowed, Effect: "this entry is ignored",
		}
	}
	var problems []Problem
	for i, port := range slice.Ports {
		if port.Port == nil {
			continue // nil means "all ports", which no Service with a selector has
		}
		if *port.Port < 1 || *port.Port > 65535 {
			problems = append(problems, problem(fmt.Sprintf("ports[%d].port", i), fmt.Sprint(*port.Port), "1 to 65535"))
			continue
		}
		name := ""
		if port.Name != nil {
			name = *port.Name
		}
		udp := port.Protocol != nil && *port.Protocol == corev1.ProtocolUDP
		ports := svc.Ports
		if udp {
			ports = svc.UDP
		}
		for _, sp := range ports {
			group := groups[EndpointsKey{Service: svc.Key, Port: sp.Number, Family: family, UDP: udp}]
			if sp.Name != name || group == nil {
				continue
			}
			for j, ep := range slice.Endpoints {
				for _, address := range ep.Addresses {
					ip, err := netip.ParseAddr(address)
					if err != nil || FamilyOf(ip) != family {
						problems = append(problems, problem(fmt.Sprintf("endpoints[%d].addresses", j), address, "an "+string(slice.AddressType)+" address"))
						continue
					}
					e := Endpoint{Addr: netip.AddrPortFrom(ip, uint16(*port.Port))}
					if pods != nil && !udp {
						identity, standing := pods.identityOf(slice, ep, e.Addr)
						if standing == wrong {
							problems = append(problems, problem(fmt.Sprintf("endpoints[%d].addresses", j), address, "an address of pod "+podKey(slice, ep.TargetRef).String()))
						}
						if standing != known {
							continue
						}
						e.Identity = identity
					}
					group.add(ep, e)
				}
			}
		}
	}
	return problems
}

// candidates are the endpoints of one group, before the choice between ready and terminating.
type candidates struct {
	ready, draining []Endpoint
}

func (c *candidates) add(ep discoveryv1.Endpoint, e Endpoint) {
	if ep.NodeName != nil {
		e.Node = *ep.NodeName
	}
	cond := ep.Conditions
	switch {
	case isTrue(cond.Ready, true):
		e.ForNodes, e.ForZones = hints(ep.Hints)
		c.ready = append(c.ready, e)
	case isTrue(cond.Serving, false) && isTrue(cond.Terminating, false):
		c.draining = append(c.draining, e)
	}
}

// chooseByNode chooses the endpoints of each node separately.
func (c *candidates) chooseByNode() []Endpoint {
	nodes := map[string]*candidates{}
	of := func(e Endpoint) *candidates {
		if nodes[e.Node] == nil {
			nodes[e.Node] = &candidates{}
		}
		return nodes[e.Node]
	}
	for _, e := range c.ready {
		of(e).ready = append(of(e).ready, e)
	}
	for _, e := range c.draining {
		of(e).draining = append(of(e).draining, e)
	}
	all := candidates{}
	for _, n := range nodes {
		all.ready = append(all.ready, n.choose()...)
	}
	return all.choose()
}

func (c *candidates) choose() []Endpoint {
	chosen := c.ready
	if len(chosen) == 0 {
		chosen = c.draining
	}
	slices.SortFunc(chosen, func(a, b Endpoint) int {
		// A SPIFFE ID comes after PlainText, and the reverse order takes it.
		return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(b.Identity, a.Identity), cmp.Compare(a.Node, b.Node))
	})
	return slices.CompactFunc(chosen, func(a, b Endpoint) bool { return a.Addr == b.Addr })
}

// isTrue reads a condition. unset is the meaning of a missing one in the EndpointSlice API.
func isTrue(b *bool, unset bool) bool {
	if b == nil {
		return unset
	}
	return *b
}
