package envoy

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	directv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/direct_response/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Each Service port with TCPRoutes has a filter chain in the outbound listener. Connections to ports with TLSRoutes are passed
// on to a listener inside Envoy, which waits for the ClientHello, so that no other connection waits. It exists only while
// there are such routes. Listeners that get connections by address, like detectName, were tried. Envoy refuses an address
// that another listener still has, so no order of updates is right when an address moves from one to the other. Backends
// are the clusters for bytes of their Service ports, which Envoy asks for on demand.
const tlsRoutesName = "tls_routes" // also the name of a filter chain and of the cluster that leads there

// RefusedCluster has no endpoints. It takes an invalid backend's share of the connections.
const RefusedCluster = "refused"

// ConnectionRoutes has the rules of all Services whose ports have routes of connections.
type ConnectionRoutes struct{ services map[mesh.Key]routedService }

type routedService struct {
	*mesh.Service
	rules map[uint16]mesh.PortRules
}

func newConnectionRoutes() *ConnectionRoutes {
	return &ConnectionRoutes{services: map[mesh.Key]routedService{}}
}

// Set replaces the rules of a Service's ports (mesh.BuildRoutes). A Service outside the mesh has none.
func (c *ConnectionRoutes) Set(key mesh.Key, svc *mesh.Service, rules map[uint16]mesh.PortRules) {
	delete(c.services, key)
	for _, p := range rules {
		if svc != nil && ofConnections(p) {
			c.services[key] = routedService{svc, rules}
			return
		}
	}
}

// ofConnections reports whether some clients of a port have rules for connections.
func ofConnections(p mesh.PortRules) bool {
	return mesh.OfConnections(p.Producer) ||
		slices.ContainsFunc(slices.Collect(maps.Values(p.Consumer)), mesh.OfConnections)
}

// Resources returns the resources for TLSRoutes, and the IDs of those that are not needed any more.
func (c *ConnectionRoutes) Resources(cfg *config.Mesh) (set []Resource, gone []ID) {
	listener := Resource{Type: ListenerType, Name: tlsRoutesName}
	cluster := Resource{Type: ClusterType, Name: tlsRoutesName, Message: internalCluster(tlsRoutesName)}
	used := false
	for _, namespace := range c.clients() {
		l := internalListener(tlsRoutesName)
		l.ListenerFilters = append(l.ListenerFilters, tlsInspector())
		l.ListenerFiltersTimeout = durationpb.New(0) // a client may connect long before its ClientHello
		l.DefaultFilterChain = refuse()              // for names without a rule, and for anything but TLS
		for _, to := range c.view(namespace) {
			if to.tls() {
				used = true
				l.FilterChains = append(l.FilterChains, translation{key: to.key, cfg: cfg}.serverNameChains(to)...)
			}
		}
		listener.Variant, listener.Message = namespace, l
		set = append(set, listener)
	}
	if !used {
		return nil, []ID{listener.ID(), cluster.ID()}
	}
	return append(set, cluster), nil
}

// of returns the variant for clients of a namespace.
func (f families) of(namespace string) string {
	if namespace == "" {
		return string(f)
	}
	return string(f) + "@" + namespace
}

// clients returns the namespaces whose clients may have rules of their own, and "" for all others.
func (c *ConnectionRoutes) clients() []string {
	out := []string{""}
	for _, svc := range c.services {
		for _, p := range svc.rules {
			if ofConnections(p) {
				out = slices.AppendSeq(out, maps.Keys(p.Consumer))
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// destination is an address of a Service with the rules of its port.
type destination struct {
	netip.AddrPort
	key   mesh.EndpointsKey
	rules []mesh.Rule
}

func (d destination) tls() bool { return d.rules[0].Match.TLS != nil }

// chain returns the name of the destination's filter chain.
func (d destination) chain() string {
	if d.tls() {
		return tlsRoutesName
	}
	return OutboundName(d.key)
}

// view returns the destinations with rules for connections of clients in a namespace, sorted. Two Services may have the same
// address for a moment; then the first by name counts.
func (c *ConnectionRoutes) view(namespace string) []destination {
	var out []destination
	for _, key := range slices.SortedFunc(maps.Keys(c.services), mesh.Key.Compare) {
		svc := c.services[key]
		for _, ip := range svc.ClusterIPs {
			for number, p := range svc.rules {
				if rules := p.For(namespace); mesh.OfConnections(rules) {
					key := mesh.EndpointsKey{Service: key, Port: number, Family: mesh.FamilyOf(ip)}
					out = append(out, destination{netip.AddrPortFrom(ip, number), key, rules})
				}
			}
		}
	}
	slices.SortStableFunc(out, func(a, b destination) int { return a.Compare(b.AddrPort) })
	return slices.CompactFunc(out, func(a, b destination) bool { return a.AddrPort == b.AddrPort })
}

// connectionChains returns the chains of the outbound listener for the destinations of a view.
func connectionChains(view []destination, cfg *config.Mesh) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	for _, d := range view {
		if !d.tls() {
			t := translation{key: d.key, cfg: cfg}
			out = append(out, &listenerv3.FilterChain{Name: d.chain(), Filters: []*listenerv3.Filter{t.connectionFilter(d.rules[0].Action)}})
		}
	}
	if slices.ContainsFunc(view, destination.tls) {
		out = append(out, &listenerv3.FilterChain{Name: tlsRoutesName, Filters: passOn(tlsRoutesName)})
	}
	return out
}

// serverNameChains returns one chain for each server name. Envoy takes the most specific name that matches, which is the
// order of the rules. It refuses two chains for the same name, so only the first rule with a name counts.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/api-v3/config/listener/v3/listener_components.proto#config-listener-v3-filterchainmatch
func (t translation) serverNameChains(to destination) []*listenerv3.FilterChain {
	var out []*listenerv3.FilterChain
	seen := map[string]bool{}
	for _, r := range to.rules {
		name := r.Match.TLS.ServerName
		if seen[name] {
			continue
		}
		seen[name] = true
		match := &listenerv3.FilterChainMatch{
			DestinationPort:   wrapperspb.UInt32(uint32(to.Port())),
			PrefixRanges:      []*corev3.CidrRange{{AddressPrefix: to.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(to.Addr().BitLen()))}},
			TransportProtocol: "tls",
		}
		if name != "" {
			match.ServerNames = []string{name}
		}
		out = append(out, &listenerv3.FilterChain{
			Name:             strings.TrimSuffix(OutboundName(t.key)+" "+name, " "),
			FilterChainMatch: match,
			Filters:          []*listenerv3.Filter{t.connectionFilter(r.Action)},
		})
	}
	return out
}

// connectionFilter shares connections by weight. A connection that cannot be made, for example because its backend has no
// endpoints, is closed. It is not made to another backend.
func (t translation) connectionFilter(a *mesh.Action) *listenerv3.Filter {
	if a.Refuse {
		return networkFilter("envoy.filters.network.direct_response", &directv3.Config{})
	}
	p, refused := outboundTCP(t.cfg), RefusedCluster
	if t.edge != nil {
		p, refused = edgeTCP(t.cfg), UnresolvedCluster
	}
	weighted := &tcpv3.TcpProxy_WeightedCluster{}
	for _, b := range a.Backends {
		name := refused
		if b.Valid {
			name = t.destination(b.Target)
		}
		weighted.Clusters = append(weighted.Clusters, &tcpv3.TcpProxy_WeightedCluster_ClusterWeight{Name: name, Weight: b.Weight})
	}
	if p.ClusterSpecifier = (&tcpv3.TcpProxy_WeightedClusters{WeightedClusters: weighted}); len(weighted.Clusters) == 1 {
		p.ClusterSpecifier = &tcpv3.TcpProxy_Cluster{Cluster: weighted.Clusters[0].Name}
	}
	return tcpProxyFilter(p)
}

// destination returns the address of a Service port, which is the name of its cluster for bytes (tcpCluster).
func (t translation) destination(target mesh.Target) string {
	if t.edge != nil {
		return gatewayClusterName(kindTCP, t.endpoints(target))
	}
	family := t.endpoints(target).Family
	i := slices.IndexFunc(target.ClusterIPs, func(ip netip.Addr) bool { return mesh.FamilyOf(ip) == family })
	return netip.AddrPortFrom(target.ClusterIPs[i], target.Port).String()
}
