package envoy

import (
	"fmt"
	"slices"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// portChains are the chains for connections to one port, with mTLS and without. Ports of which nothing is said share
// theirs. Each other port has chains of its own, so that a change of what is said of one leaves the connections to
// the others alone: Envoy keeps the chains that are the same.
type portChains struct{ mtls, plain string }

var sharedChains = portChains{mtlsChain, passthroughChain}

func chainsOf(port uint16) portChains {
	return portChains{fmt.Sprintf("%s/%d", mtlsChain, port), fmt.Sprintf("%s/%d", passthroughChain, port)}
}

// inboundChains are all chains of a pod.
func inboundChains(in mesh.Inbound, cfg *config.Mesh) []*listenerv3.FilterChain {
	shared := stages(in.PoliciesAt(0), cfg.MTLS.TrustDomain)
	out := bytesChains(sharedChains, shared, cfg)
	http := in.HTTPPorts()
	for _, port := range in.PolicyPorts() {
		names, own := chainsOf(port), stages(in.PoliciesAt(port), cfg.MTLS.TrustDomain)
		if slices.Contains(http, port) {
			out = append(out, httpChains(names, own, slices.Contains(in.ForwardCert, port), cfg)...)
		} else {
			out = append(out, bytesChains(names, own, cfg)...)
		}
	}
	return append(out, refuse())
}

// bytesChains look at the caller alone.
func bytesChains(names portChains, policies []stage, cfg *config.Mesh) []*listenerv3.FilterChain {
	build := func(name, statPrefix string, socket *corev3.TransportSocket) *listenerv3.FilterChain {
		c := &listenerv3.FilterChain{Name: name, TransportSocket: socket}
		for _, s := range policies {
			c.Filters = append(c.Filters, s.networkFilter())
		}
		c.Filters = append(c.Filters, tcpProxyFilter(authorizedProxy(statPrefix, policies)))
		return c
	}
	return []*listenerv3.FilterChain{
		build(names.mtls, "inbound_mtls", calledTLS(cfg.MTLS, ALPN)),
		build(names.plain, "inbound", nil),
	}
}

// inboundMatcher chooses the chain by port and what the client said first.
func inboundMatcher(in mesh.Inbound) *matcherv3.Matcher {
	branches := map[uint16]*matcherv3.Matcher_OnMatch{}
	for _, port := range in.PolicyPorts() {
		branches[port] = nested(byALPN(in.ModeAt(port), chainsOf(port)))
	}
	for port, mode := range in.Ports {
		if branches[port] == nil {
			branches[port] = nested(byALPN(mode, sharedChains))
		}
	}
	branches[inboundPort] = chain(refuseChain) // as refusePort
	m := portMatcher(branches)
	m.OnNoMatch = nested(byALPN(in.Mode, sharedChains))
	return m
}

// authorizedProxy passes bytes on where no policy has refused the connection.
func authorizedProxy(statPrefix string, policies []stage) *tcpv3.TcpProxy {
	p := tcpProxy(statPrefix, InboundCluster)
	p.AccessLog = refusalLogs(networkRBAC, policies)
	return p
}
