package envoy

import (
	"fmt"
	"maps"
	"slices"

	matcherv3 "github.com/cncf/xds/go/xds/type/matcher/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// portChains are the names of the chains for connections to one port, with mTLS and without. A port of bytes where policies
// refuse callers has a third chain, for connections with mTLS that carry HTTP according to their caller: it answers
// refusals in HTTP. Ports without settings or rules of their own share their chains. Each other port has chains of its own,
// so that a change at one port keeps the connections to the others: Envoy keeps chains that stay the same.
type portChains struct{ mtls, plain, http string }

var sharedChains = portChains{mtls: mtlsChain, plain: passthroughChain}

func chainsOf(port uint16) portChains {
	return portChains{mtls: fmt.Sprintf("%s/%d", mtlsChain, port), plain: fmt.Sprintf("%s/%d", passthroughChain, port)}
}

// telling adds the third chain at a port of bytes where policies refuse callers.
func (c portChains) telling(in mesh.Inbound, port uint16) portChains {
	if in.RefusesCallers(port) {
		c.http = c.mtls + "/http"
	}
	return c
}

// inboundChains returns all chains of a pod.
func inboundChains(in mesh.Inbound, cfg *config.Mesh, callers bool) []*listenerv3.FilterChain {
	out := bytesChains(sharedOf(in).telling(in, 0), in.Mode, in.PoliciesAt(0), cfg, callers)
	http, judged := in.HTTPPorts(), in.PolicyPorts()
	for _, port := range judged {
		names, mode, policies := chainsOf(port), in.ModeAt(port), in.PoliciesAt(port)
		if slices.Contains(http, port) {
			how := inboundHTTP{
				policies: stages(policies, cfg.MTLS.TrustDomain), requests: in.JudgesRequests(port), forwardCert: slices.Contains(in.ForwardCert, port), callers: callers,
				drainTime: cfg.MTLS.DrainTime.Duration,
			}
			if plainHTTP(in, port) {
				out = append(out, httpChains(names, mode, how, cfg)...)
			} else {
				out = append(out, httpChains(names, config.Strict, how, cfg)...)
				out = append(out, plainBytes(names.plain, mode, policies, how.policies, callers)...)
			}
		} else {
			out = append(out, bytesChains(names.telling(in, port), mode, policies, cfg, callers)...)
		}
	}
	for _, port := range permissivePorts(in) {
		policies := in.PoliciesAt(0)
		out = append(out, plainBytes(chainsOf(port).plain, config.Permissive, policies, stages(policies, cfg.MTLS.TrustDomain), callers)...)
	}
	refuse := refuse()
	refuse.Metadata = admissionOf(in, cfg).Metadata()
	return append(out, refuse)
}

// permissivePorts returns the permissive ports, without rules of their own, of a pod that is strict otherwise. For callers
// with mTLS they share the chain of the other ports.
func permissivePorts(in mesh.Inbound) []uint16 {
	judged := in.PolicyPorts()
	var out []uint16
	for _, port := range slices.Sorted(maps.Keys(in.Ports)) {
		if in.Ports[port] != config.Strict && !slices.Contains(judged, port) {
			out = append(out, port)
		}
	}
	return out
}

// bytesChains returns chains that look only at the caller.
func bytesChains(names portChains, mode config.MTLSMode, policies []mesh.Policy, cfg *config.Mesh, callers bool) []*listenerv3.FilterChain {
	all := stages(policies, cfg.MTLS.TrustDomain)
	mtls := &listenerv3.FilterChain{Name: names.mtls, TransportSocket: calledTLS(cfg.MTLS, ALPN)}
	for _, s := range all {
		mtls.Filters = append(mtls.Filters, s.networkFilter())
	}
	proxy, first := toApplication("inbound_mtls", callers)
	mtls.Filters = append(mtls.Filters, first...)
	proxy.AccessLog = refusalLogs(networkRBAC, all)
	logMTLS(proxy)
	mtls.Filters = append(mtls.Filters, tcpProxyFilter(proxy))
	out := []*listenerv3.FilterChain{mtls}
	if names.http != "" {
		out = append(out, httpChains(portChains{mtls: names.http}, config.Strict, inboundHTTP{policies: all, callers: callers, drainTime: cfg.MTLS.DrainTime.Duration}, cfg)...)
	}
	return append(out, plainBytes(names.plain, mode, policies, all, callers)...)
}

// inboundMatcher chooses the chain by the port and by the client's first bytes.
func inboundMatcher(in mesh.Inbound) *matcherv3.Matcher {
	branches := map[uint16]*matcherv3.Matcher_OnMatch{}
	http := in.HTTPPorts()
	for _, port := range in.PolicyPorts() {
		to := chainsOf(port)
		if !plainHTTP(in, port) {
			to.plain = plainTo(to.plain, in.PoliciesAt(port))
		}
		if !slices.Contains(http, port) {
			to = to.telling(in, port)
		}
		branches[port] = nested(byALPN(in.ModeAt(port), to))
	}
	shared := sharedOf(in).telling(in, 0)
	for _, port := range permissivePorts(in) {
		branches[port] = nested(byALPN(config.Permissive, portChains{shared.mtls, plainTo(chainsOf(port).plain, in.PoliciesAt(0)), shared.http}))
	}
	shared.plain = plainTo(shared.plain, in.PoliciesAt(0))
	for port, mode := range in.Ports {
		if branches[port] == nil {
			branches[port] = nested(byALPN(mode, shared))
		}
	}
	branches[inboundPort] = chain(refuseChain) // as refusePort
	m := portMatcher(branches)
	m.OnNoMatch = nested(byALPN(in.Mode, shared))
	return m
}
