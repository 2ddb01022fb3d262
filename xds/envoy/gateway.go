package envoy

import (
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	proxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/proxy_protocol/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// edge is the side of a gateway: where its callers come to, and the filters that its routes need.
type edge struct {
	origin
	filters edgeFilters
}

// streamIdleTime returns how long a request may be silent in both directions. A client that is slow on purpose does not hold
// it for good. A gRPC stream may wait for as long as it likes: TCP keepalive notices a client that is gone.
func streamIdleTime(r mesh.Rule) time.Duration {
	if r.Match.GRPC != nil || r.Origin.Route.Kind == mesh.KindGRPCRoute {
		return 0
	}
	return idleTime
}

// GatewayResources returns what belongs to a Gateway alone: its listeners, route configurations, virtual hosts and secrets.
func GatewayResources(gw mesh.Gateway, cfg *config.Mesh) []Resource {
	out, _ := GatewayChange(gw, nil, cfg)
	return out
}

// GatewayChange is GatewayResources without the virtual hosts that are as before. now has all virtual hosts.
func GatewayChange(gw mesh.Gateway, before BuiltHosts, cfg *config.Mesh) (changed []Resource, now BuiltHosts) {
	var out []Resource
	now = BuiltHosts{}
	for _, s := range gw.Sockets {
		out = append(out, socketResources(gw, s, before, now, cfg)...)
	}
	if len(gw.Sockets) == 0 {
		out = append(out, nothingToServe(gw.Owner()))
	}
	for _, s := range gw.Secrets {
		out = append(out, Resource{Type: SecretType, Name: s.Name, Lazy: true, Message: secretOf(s)})
	}
	for i := range out {
		out[i].Owner, out[i].Namespace = gw.Owner(), gw.Namespace
	}
	return out, now
}

// nothingToServe is a listener without a socket, for a Gateway whose listeners are all at fault. The server lets a gateway wait for its
// first listener, because without it nobody would know whether there will be one. Such a gateway's pods are ready.
func nothingToServe(owner string) Resource {
	l := internalListener("gateway/" + owner + "/none")
	l.FilterChains = []*listenerv3.FilterChain{refuse()}
	return Resource{Type: ListenerType, Name: l.Name, Message: l}
}

// socketName returns the name of a socket's listener and, at its beginning, of its route configurations and virtual hosts.
func socketName(owner string, s mesh.Socket) string {
	name := fmt.Sprintf("gateway/%s/%d", owner, s.Port)
	if s.UDP {
		name += "/udp"
	}
	return name
}

// socketResources returns the listener of a socket, that of HTTP/3 if one of its listeners asks for it, their route configurations and
// the virtual hosts of these. A route configuration is lazy: Envoy asks for it when it has the listener.
func socketResources(gw mesh.Gateway, s mesh.Socket, before, now BuiltHosts, cfg *config.Mesh) []Resource {
	name := socketName(gw.Owner(), s)
	b := socketBuilder{name: name, socket: s, clients: gw.Clients, before: before, now: now, cfg: cfg}
	b.build()
	out := listeners(name, func(f families) *listenerv3.Listener {
		l := &listenerv3.Listener{
			FilterChains: b.chains, ListenerFilters: b.filters,
			// As Envoy advises for strangers: https://www.envoyproxy.io/docs/envoy/v1.40.0/configuration/best_practices/edge
			PerConnectionBufferLimitBytes: wrapperspb.UInt32(bufferLimit),
		}
		f.bind(l, anyIPv4, anyIPv6, uint32(s.Bind))
		if s.UDP {
			l.UdpListenerConfig = &listenerv3.UdpListenerConfig{}
			overUDP(l)
		} else {
			watchCallers(l, cfg)
		}
		return l
	})
	if len(b.quic) > 0 {
		out = append(out, quicListeners(name, s.Bind, b.quic)...)
	}
	for i := range out {
		out[i].Clusters = b.clusters
	}
	return append(out, b.routes...)
}

// socketBuilder collects what belongs to a socket.
type socketBuilder struct {
	name    string
	socket  mesh.Socket
	clients mesh.Clients
	cfg     *config.Mesh
	// before has virtual hosts that need not be built again if they are the same, and now gets all of them.
	before, now BuiltHosts

	chains   []*listenerv3.FilterChain
	quic     []*listenerv3.FilterChain
	filters  []*listenerv3.ListenerFilter
	routes   []Resource // route configurations and virtual hosts
	clusters []string   // sorted, each once: those that no route configuration names
}

func (b *socketBuilder) build() {
	for i, l := range b.socket.Listeners {
		switch l.Protocol {
		case gatewayv1.HTTPProtocolType:
			if i == 0 { // all of them share their connections
				b.requests(b.name, "http", nil, nil, b.socket.ListenersFor(false, "")...)
			}
		case gatewayv1.HTTPSProtocolType:
			b.requests(b.name+"/"+l.Name, "https", serverNames(l.Hostname), l.TLS, l)
		case gatewayv1.TLSProtocolType:
			b.serverNames(l)
		case gatewayv1.UDPProtocolType:
			b.datagrams(l)
		default:
			b.connections(l)
		}
	}
	if b.clients.ProxyProtocol && !b.socket.UDP {
		b.filters = append(b.filters, proxyProtocol()) // before the bytes of the client
	}
	if slices.ContainsFunc(b.chains, func(c *listenerv3.FilterChain) bool { return c.FilterChainMatch != nil }) {
		b.filters = append(b.filters, tlsInspector())
	}
	slices.Sort(b.clusters)
	b.clusters = slices.Compact(b.clusters)
}

// requests adds a chain with the route configuration of the listeners.
func (b *socketBuilder) requests(name, scheme string, match *listenerv3.FilterChainMatch, tls *mesh.ListenerTLS, of ...mesh.Listener) {
	t := translation{cfg: b.cfg, edge: &edge{origin: origin{scheme, b.socket.Port}, filters: filtersOf(of)}}
	name += t.edge.filters.suffix()
	b.routes = append(b.routes, t.edgeRoutes(name))
	for _, h := range b.socket.Hosts(of) {
		id := ID{VirtualHostType, virtualHostName(name, h)}
		if b.now[id] = builtFrom(h); !b.now[id].same(b.before[id]) {
			b.routes = append(b.routes, t.virtualHost(name, h))
		}
	}
	m := edgeConnectionManager(name, t.edge.filters, b.clients)
	chain := &listenerv3.FilterChain{Name: name, FilterChainMatch: match}
	if tls != nil {
		chain.TransportSocket = tlsSocket(listenerTLS(tls, "h2", "http/1.1"))
		if b.clients.ForwardClientCertificate && tls.ClientCA != "" && !tls.AllowInvalidClient {
			forwardCertificate(m)
		}
		if tls.HTTP3 {
			b.quic = append(b.quic, quicChain(name, of[0], m))
			m.HttpFilters = append([]*hcmv3.HttpFilter{alternative(b.socket.Port)}, m.HttpFilters...)
		}
	}
	chain.Filters = []*listenerv3.Filter{connectionManager(m)}
	b.chains = append(b.chains, chain)
	b.clusters = append(b.clusters, t.edge.filters.clusters...)
}

// serverNames adds a chain for each server name of a TLS listener, but not for those that a more specific listener takes. Other
// connections to the listener's host name are closed: they are not those of a less specific listener.
func (b *socketBuilder) serverNames(l mesh.Listener) {
	t := translation{cfg: b.cfg, edge: &edge{origin: origin{"https", b.socket.Port}}}
	seen := map[string]bool{}
	add := func(name string, filter *listenerv3.Filter) {
		if taker, _ := mesh.ListenerOf(b.socket.Listeners, name); seen[name] || taker.Name != l.Name {
			return
		}
		seen[name] = true
		chain := &listenerv3.FilterChain{
			Name: b.name + "/" + l.Name + " " + domain(name), FilterChainMatch: serverNames(name), Filters: []*listenerv3.Filter{filter},
		}
		if l.TLS != nil {
			chain.TransportSocket = tlsSocket(listenerTLS(l.TLS))
		}
		b.chains = append(b.chains, chain)
	}
	for _, r := range l.Connections {
		name := ""
		if r.Match.TLS != nil {
			name = r.Match.TLS.ServerName
		}
		add(name, t.connectionFilter(r.Action))
		b.need(t, kindTCP, r.Action)
	}
	add(l.Hostname, refuse().Filters[0])
}

// connections adds the one chain of a TCP listener.
func (b *socketBuilder) connections(l mesh.Listener) {
	chain := refuse()
	if len(l.Connections) > 0 {
		t, action := translation{cfg: b.cfg, edge: &edge{}}, l.Connections[0].Action
		chain = &listenerv3.FilterChain{Name: b.name, Filters: []*listenerv3.Filter{t.connectionFilter(action)}}
		b.need(t, kindTCP, action)
	}
	b.chains = append(b.chains, chain)
}

// need notes the clusters of connections.
func (b *socketBuilder) need(t translation, kind string, a *mesh.Action) {
	for _, to := range a.Backends {
		if to.Valid {
			b.clusters = append(b.clusters, gatewayClusterName(kind, t.endpoints(to.Target)))
		}
	}
}

// serverNames matches TLS connections to a host name, all for "".
func serverNames(hostname string) *listenerv3.FilterChainMatch {
	m := &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
	if hostname != "" {
		m.ServerNames = []string{hostname}
	}
	return m
}

// proxyProtocol takes the client's address from the PROXY protocol, version 1 or 2, and closes a connection without it.
func proxyProtocol() *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{
		Name:       "envoy.filters.listener.proxy_protocol",
		ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: toAny(&proxyv3.ProxyProtocol{})},
	}
}

// edgeTCP is outboundTCP without clusters on demand: a gateway has those of its listeners.
func edgeTCP(cfg *config.Mesh) *tcpv3.TcpProxy {
	p := outboundTCP(cfg)
	p.StatPrefix, p.OnDemand = "gateway_tcp", nil
	return p
}

// overUDP makes the addresses of a listener UDP ones.
func overUDP(l *listenerv3.Listener) {
	udp := func(a *corev3.Address) { a.GetSocketAddress().Protocol = corev3.SocketAddress_UDP }
	udp(l.Address)
	for _, a := range l.AdditionalAddresses {
		udp(a.Address)
	}
}
