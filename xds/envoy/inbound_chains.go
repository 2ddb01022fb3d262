package envoy

import (
	"fmt"
	"slices"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

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
	out := bytesChains(sharedChains, in.PoliciesAt(0), cfg)
	http := in.HTTPPorts()
	for _, port := range in.PolicyPorts() {
		names, policies := chainsOf(port), in.PoliciesAt(port)
		if slices.Contains(http, port) {
			out = append(out, httpChains(names, stages(policies, cfg.MTLS.TrustDomain), slices.Contains(in.ForwardCert, port), cfg)...)
		} else {
			out = append(out, bytesChains(names, policies, cfg)...)
		}
	}
	return append(out, refuse())
}

// bytesChains look at the caller alone.
func bytesChains(names portChains, policies []mesh.Policy, cfg *config.Mesh) []*listenerv3.FilterChain {
	all := stages(policies, cfg.MTLS.TrustDomain)
	build := func(name, statPrefix string, socket *corev3.TransportSocket) (*listenerv3.FilterChain, *tcpv3.TcpProxy) {
		c := &listenerv3.FilterChain{Name: name, TransportSocket: socket}
		for _, s := range all {
			c.Filters = append(c.Filters, s.networkFilter())
		}
		p := tcpProxyTo(statPrefix, InboundCluster)
		p.AccessLog = refusalLogs(networkRBAC, all)
		return c, p
	}
	mtls, mtlsProxy := build(names.mtls, "inbound_mtls", calledTLS(cfg.MTLS, ALPN))
	plain, plainProxy := build(names.plain, "inbound", nil)
	if verdict, _ := mesh.Authorize(policies, mesh.Call{}); !verdict.Allowed {
		// Envoy looks at the policies when the caller says something. The server, which may speak first, is not to be
		// connected before. Where it depends on the caller it has to be: a caller who is let in may wait for it.
		plainProxy.UpstreamConnectMode = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
		plainProxy.MaxEarlyDataBytes = wrapperspb.UInt32(0)
	}
	logPlain(plainProxy)
	mtls.Filters = append(mtls.Filters, tcpProxyFilter(mtlsProxy))
	plain.Filters = append(plain.Filters, tcpProxyFilter(plainProxy))
	return []*listenerv3.FilterChain{mtls, plain}
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
