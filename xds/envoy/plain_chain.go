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

// Connections in plain text that live end when they are not to be any more. Envoy drains a filter chain that a listener
// has lost or that has changed, and leaves the others alone; by itself that only ends what is there after the drain
// time, which is a day. With check_drain_close the TCP proxy looks after each read and write, in either direction,
// whether its chain is drained, and closes; with the drain strategy "immediate" (internal/agent) it does so at the next
// byte. Chains that end HTTP send "connection: close" or GOAWAY by themselves.
// https://www.envoyproxy.io/docs/envoy/v1.40.0/intro/arch_overview/operations/draining
// Those on which nothing is said the agent ends (admission.go).
//
// So a chain in plain text is there only while somebody may be in it, and it changes for no other reason: whoever
// changes what stands in it cuts connections at the next upgrade of the control plane (the goldens in xds/testdata show when).

// plainBytes is the chain of a port for connections in plain text as bytes, and none where nobody may make one.
//
// None of their callers has an identity, so the policies of a port say the same of all of them. Where they let all in,
// the chain is the one without policies: a change of policies that means nothing to them ends none.
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

// judgedName is that of the chain for new connections while policies would refuse them. Beside it the chain without
// policies stays while these are in dry run, which ends nothing.
func judgedName(name string) string { return name + "/judged" }

// plainTo is the chain for new connections in plain text to a port of bytes.
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
		// Envoy looks at the policies when the caller says something. The server, which may speak first, is not to be
		// connected before.
		p.UpstreamConnectMode = tcpv3.UpstreamConnectMode_ON_DOWNSTREAM_DATA
		p.MaxEarlyDataBytes = wrapperspb.UInt32(0)
	}
	logPlain(p)
	c.Filters = append(c.Filters, tcpProxyFilter(p))
	return c
}

// sharedOf are the chains of ports of which nothing is said. The name of the one in plain text tells the ports that do not
// take such connections any more, or look into them: some may be in it from before, so that it has to be another from
// then on. Those to other ports are made anew with them, because Envoy does not tell one from the other.
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

// plainHTTP reports whether HTTP is read of callers in plain text: where that is for more than to tell them of a refusal,
// and where it is not, if they are refused. Others go on as they were.
func plainHTTP(in mesh.Inbound, port uint16) bool {
	if in.JudgesRequests(port) || slices.Contains(in.ForwardCert, port) {
		return true
	}
	verdict, _ := mesh.Authorize(in.PoliciesAt(port), mesh.Call{})
	return slices.Contains(in.HTTP, port) && !verdict.Allowed
}

// portsOf are those of which something is said. Ascending.
func portsOf(in mesh.Inbound) []uint16 {
	out := slices.AppendSeq(in.PolicyPorts(), maps.Keys(in.Ports))
	slices.Sort(out)
	return slices.Compact(out)
}
