package envoy

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	xdscorev3 "github.com/cncf/xds/go/xds/core/v3"
	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	networkv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/common_inputs/network/v3"
	ipv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/matching/input_matchers/ip/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ProtocolTable says which filter chain a connection to a Service port takes. It holds the most common protocol of each
// port number, and only the addresses that differ. So its size does not grow with the number of Services, and a Service
// with the usual protocol of its port number changes nothing in the listener.
type ProtocolTable struct {
	ports map[uint16]addresses
	// Routes of connections, which win over protocols.
	Routes *ConnectionRoutes
}

// addresses of one port number, by protocol. They are counted, because a Service may get an address before we see that its
// previous owner is gone.
type addresses map[mesh.Protocol]map[netip.Addr]int

// NewProtocolTable returns the table of some Services.
func NewProtocolTable(services ...*mesh.Service) *ProtocolTable {
	t := &ProtocolTable{ports: map[uint16]addresses{}, Routes: newConnectionRoutes()}
	for _, svc := range services {
		t.Add(svc)
	}
	return t
}

// Add adds a Service. One without cluster IPs, to which gateways send, has no addresses here.
func (t *ProtocolTable) Add(svc *mesh.Service) {
	if len(svc.ClusterIPs) == 0 {
		return
	}
	for _, p := range svc.Ports {
		if t.ports[p.Number] == nil {
			t.ports[p.Number] = addresses{}
		}
		of := t.ports[p.Number]
		if of[p.Protocol] == nil {
			of[p.Protocol] = map[netip.Addr]int{}
		}
		for _, ip := range svc.ClusterIPs {
			of[p.Protocol][ip]++
		}
	}
}

// Remove removes a Service, which must be as it was added.
func (t *ProtocolTable) Remove(svc *mesh.Service) {
	if len(svc.ClusterIPs) == 0 {
		return
	}
	for _, p := range svc.Ports {
		of := t.ports[p.Number]
		for _, ip := range svc.ClusterIPs {
			if of[p.Protocol][ip]--; of[p.Protocol][ip] == 0 {
				delete(of[p.Protocol], ip)
			}
		}
		if len(of[p.Protocol]) == 0 {
			delete(of, p.Protocol)
		}
		if len(of) == 0 {
			delete(t.ports, p.Number)
		}
	}
}

// protocolRank breaks ties between equally common protocols.
var protocolRank = map[mesh.Protocol]int{mesh.HTTP: 0, mesh.Detect: 1, mesh.TCP: 2}

// usual returns the most common protocol.
func (a addresses) usual() mesh.Protocol {
	return slices.MinFunc(slices.Collect(maps.Keys(a)), func(p, q mesh.Protocol) int {
		return cmp.Or(cmp.Compare(len(a[q]), len(a[p])), cmp.Compare(protocolRank[p], protocolRank[q]))
	})
}

// matcher chooses the filter chain of an outbound connection by its destination. In a range of Services the port decides
// or, for exceptions, the address. Destinations with routes, as in view, are exceptions, too. An address in a range of pods
// takes their chain. All other connections pass through.
func (t *ProtocolTable) matcher(view []destination, serviceCIDRs, podRanges []netip.Prefix) *matcherv3.Matcher {
	return t.destinations(nested(t.toService(view)), serviceCIDRs, podRanges)
}

// destinations is matcher, with toService for connections to Services.
func (t *ProtocolTable) destinations(toService *matcherv3.Matcher_OnMatch, serviceCIDRs, podRanges []netip.Prefix) *matcherv3.Matcher {
	matchers := []*matcherv3.Matcher_MatcherList_FieldMatcher{refuseLoopback()}
	if len(serviceCIDRs) > 0 && len(t.ports) > 0 {
		matchers = append(matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{
			Predicate: addressIn(serviceCIDRs), OnMatch: toService,
		})
	}
	if len(podRanges) > 0 {
		matchers = append(matchers, &matcherv3.Matcher_MatcherList_FieldMatcher{Predicate: addressIn(podRanges), OnMatch: chain(podChain)})
	}
	return addressMatcher(matchers...)
}

func (t *ProtocolTable) toService(view []destination) *matcherv3.Matcher {
	routed := map[uint16][]destination{}
	for _, d := range view {
		routed[d.Port()] = append(routed[d.Port()], d)
	}
	byPort := map[uint16]*matcherv3.Matcher_OnMatch{}
	for port, p := range t.ports {
		byPort[port] = p.onMatch(routed[port])
	}
	m := portMatcher(byPort)
	m.OnNoMatch = chain(passthroughChain)
	return m
}

// addressMatcher takes the first matcher that matches. Without one the connection passes through.
func addressMatcher(matchers ...*matcherv3.Matcher_MatcherList_FieldMatcher) *matcherv3.Matcher {
	return &matcherv3.Matcher{
		MatcherType: &matcherv3.Matcher_MatcherList_{MatcherList: &matcherv3.Matcher_MatcherList{Matchers: matchers}},
		OnNoMatch:   chain(passthroughChain),
	}
}

// refuseLoopback refuses connections to loopback. A redirected connection never has such a destination, so the connection
// was made to the listener itself, and Envoy would connect to itself without end.
func refuseLoopback() *matcherv3.Matcher_MatcherList_FieldMatcher {
	return &matcherv3.Matcher_MatcherList_FieldMatcher{
		Predicate: addressIn([]netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}),
		OnMatch:   chain(refuseChain),
	}
}

func (a addresses) onMatch(routed []destination) *matcherv3.Matcher_OnMatch {
	usual := a.usual()
	branches := map[string]*matcherv3.Matcher_OnMatch{}
	// In a fixed order, because two Services may have the same address for a moment.
	for _, protocol := range []mesh.Protocol{mesh.HTTP, mesh.TCP, mesh.Detect} {
		if protocol == usual {
			continue
		}
		for ip := range a[protocol] {
			branches[ip.String()] = protocolChain(protocol)
		}
	}
	for _, d := range routed {
		branches[d.Addr().String()] = chain(d.chain())
	}
	if len(branches) == 0 {
		return protocolChain(usual)
	}
	m := exact(destinationIP(), branches)
	m.OnNoMatch = protocolChain(usual)
	return nested(m)
}

func protocolChain(p mesh.Protocol) *matcherv3.Matcher_OnMatch {
	switch p {
	case mesh.HTTP:
		return chain(httpChain)
	case mesh.TCP:
		return chain(opaqueChain)
	default:
		return chain(detectName)
	}
}

// detect reads the result of the http_inspector listener filter in detectListeners.
func detect() *matcherv3.Matcher {
	branches := map[string]*matcherv3.Matcher_OnMatch{}
	for _, alpn := range []string{"http/1.0", "http/1.1", "h2c"} {
		branches["'"+alpn+"'"] = chain(httpChain)
	}
	m := exact(extension("application_protocol", &networkv3.ApplicationProtocolInput{}), branches)
	m.OnNoMatch = chain(opaqueChain)
	return m
}

func portMatcher(branches map[uint16]*matcherv3.Matcher_OnMatch) *matcherv3.Matcher {
	text := make(map[string]*matcherv3.Matcher_OnMatch, len(branches))
	for port, on := range branches {
		text[strconv.Itoa(int(port))] = on
	}
	return exact(extension("destination_port", &networkv3.DestinationPortInput{}), text)
}

func exact(in *xdscorev3.TypedExtensionConfig, branches map[string]*matcherv3.Matcher_OnMatch) *matcherv3.Matcher {
	return &matcherv3.Matcher{MatcherType: &matcherv3.Matcher_MatcherTree_{MatcherTree: &matcherv3.Matcher_MatcherTree{
		Input:    in,
		TreeType: &matcherv3.Matcher_MatcherTree_ExactMatchMap{ExactMatchMap: &matcherv3.Matcher_MatcherTree_MatchMap{Map: branches}},
	}}}
}

func addressIn(prefixes []netip.Prefix) *matcherv3.Matcher_MatcherList_Predicate {
	ranges := make([]*corev3.CidrRange, len(prefixes))
	for i, p := range prefixes {
		ranges[i] = &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}
	}
	return &matcherv3.Matcher_MatcherList_Predicate{MatchType: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_{
		SinglePredicate: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate{
			Input: destinationIP(),
			Matcher: &matcherv3.Matcher_MatcherList_Predicate_SinglePredicate_CustomMatch{
				CustomMatch: extension("envoy.matching.matchers.ip", &ipv3.Ip{StatPrefix: "service_cidrs", CidrRanges: ranges}),
			},
		},
	}}
}

func destinationIP() *xdscorev3.TypedExtensionConfig {
	return extension("destination_ip", &networkv3.DestinationIPInput{})
}

func chain(name string) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Action{
		Action: extension(name, wrapperspb.String(name)),
	}}
}

func nested(m *matcherv3.Matcher) *matcherv3.Matcher_OnMatch {
	return &matcherv3.Matcher_OnMatch{OnMatch: &matcherv3.Matcher_OnMatch_Matcher{Matcher: m}}
}

func extension(name string, m proto.Message) *xdscorev3.TypedExtensionConfig {
	return &xdscorev3.TypedExtensionConfig{Name: name, TypedConfig: toAny(m)}
}
