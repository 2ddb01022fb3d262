package envoy

import (
	"maps"
	"slices"
	"strconv"
	"strings"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// A connection in plain text ends when it is not admitted any more. Envoy drains a filter chain that was removed or has
// changed, and leaves the others alone. By default that ends connections only after the drain time, which is a day. With
// check_drain_close the TCP proxy checks after each read and write, in either direction, whether its chain drains, and
// closes. With the drain strategy "immediate" (internal/agent) it does so at the next byte. Chains of HTTP send
// "connection: close" or GOAWAY themselves.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/operations/draining
// The agent ends connections without traffic (admission.go).
//
// So a chain in plain text exists only while its connections are admitted, and changes for no other reason. Any change of
// its content in the code cuts connections at the next upgrade of the control plane; the goldens in xds/testdata show it.

// plainBytes returns the chain of a port for connections in plain text as bytes, or none if they are not admitted.
//
// None of their callers has an identity, so the policies of a port treat all of them alike. If the policies admit them, the
// chain has no policies. Thus a change of policies that does not affect these callers ends no connection.
func plainBytes(name string, mode config.MTLSMode, policies []mesh.Policy, all []stage, callers bool) []*listenerv3.FilterChain {
	if mode == config.Strict {
		return nil
	}
	verdict, wouldBe := mesh.Authorize(policies, mesh.Call{})
	var out []*listenerv3.FilterChain
	if verdict.Allowed {
		out = append(out, plainChain(name, nil, true, callers))
	}
	if !wouldBe.Allowed {
		out = append(out, plainChain(judgedName(name), all, verdict.Allowed, callers))
	}
	return out
}

// judgedName returns the name of the chain for new connections if policies would refuse them. While these policies are in
// dry run the chain without policies stays, too, so that no connection ends.
func judgedName(name string) string { return name + "/judged" }

// plainTo returns the name of the chain for new connections in plain text to a port of bytes.
func plainTo(name string, policies []mesh.Policy) string {
	if _, wouldBe := mesh.Authorize(policies, mesh.Call{}); !wouldBe.Allowed {
		return judgedName(name)
	}
	return name
}

func plainChain(name string, all []stage, allowed, callers bool) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{Name: name}
	for _, s := range all {
		c.Filters = append(c.Filters, s.networkFilter())
	}
	p, first := toApplication("inbound", callers)
	c.Filters = append(c.Filters, first...)
	p.CheckDrainClose = wrapperspb.Bool(true)
	p.AccessLog = refusalLogs(networkRBAC, all)
	if !allowed {
		// Envoy applies the policies at the caller's first bytes. The server may speak first, so it must not be connected
		// before.
		p.UpstreamConnectMode = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
		p.MaxEarlyDataBytes = wrapperspb.UInt32(0)
	}
	logPlain(p)
	c.Filters = append(c.Filters, tcpProxyFilter(p))
	return c
}

// sharedOf returns the chains of ports without settings of their own. The name of the chain in plain text lists the ports
// that do not accept such connections any more, or look into them. The old chain may still have connections to these
// ports, so its name must change. Connections to other ports end with them, because Envoy cannot drain only some.
func sharedOf(in mesh.Inbound) portChains {
	var apart []string
	for _, port := range portsOf(in) {
		verdict, _ := mesh.Authorize(in.PoliciesAt(port), mesh.Call{})
		if in.ModeAt(port) == config.Strict || plainHTTP(in, port) || !verdict.Allowed {
			apart = append(apart, strconv.Itoa(int(port)))
		}
	}
	if len(apart) == 0 {
		return sharedChains
	}
	return portChains{mtls: sharedChains.mtls, plain: sharedChains.plain + "/but/" + strings.Join(apart, ",")}
}

// plainHTTP reports whether Envoy reads HTTP from callers in plain text. It does if the port needs HTTP for more than
// answering refusals. If not, it does only while these callers are refused; otherwise their connections go on unchanged.
func plainHTTP(in mesh.Inbound, port uint16) bool {
	if in.JudgesRequests(port) || slices.Contains(in.ForwardCert, port) {
		return true
	}
	verdict, _ := mesh.Authorize(in.PoliciesAt(port), mesh.Call{})
	return slices.Contains(in.HTTP, port) && !verdict.Allowed
}

// portsOf returns the ports with settings or rules of their own, ascending.
func portsOf(in mesh.Inbound) []uint16 {
	out := slices.AppendSeq(in.PolicyPorts(), maps.Keys(in.Ports))
	slices.Sort(out)
	return slices.Compact(out)
}
