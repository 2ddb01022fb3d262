package capture

import (
	"fmt"
	"slices"
	"strings"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// TableName is the only table that Mizzen owns. Its family is inet: IPv4 and IPv6.
const TableName = "mizzen"

// Priorities of chains. The output hook knows no name for that of destination NAT, only the number:
// https://www.netfilter.org/projects/nftables/manpage.html ("Standard priority names").
const (
	manglePriority = -150
	dstnatPriority = -100
	srcnatPriority = 100
	// afterNAT is after address translation, when a connection's addresses and ports are final.
	afterNAT = 150
)

// Ruleset is the content of our table.
type Ruleset struct {
	Sets   []ConnectionSet
	Chains []Chain
}

// Hook is the place of a chain in the network stack. A pod's own calls pass Output. Packets from outside and from
// loopback pass Prerouting and, if they are for the pod, Input. Packets to outside and to loopback pass Postrouting.
type Hook string

// The hooks in use.
const (
	Output      Hook = "output"
	Prerouting  Hook = "prerouting"
	Postrouting Hook = "postrouting"
	Input       Hook = "input"
)

// Kind is the type of a base chain.
type Kind string

// The kinds in use. NAT chains see only the first packet of a connection, so their rules cost established connections
// nothing. Filter chains see each packet.
const (
	NAT    Kind = "nat"
	Filter Kind = "filter"
)

// Chain is a base chain.
type Chain struct {
	Name     string
	Kind     Kind
	Hook     Hook
	Priority int
	Rules    []Rule
}

// Rule applies Verdict to packets for which every Match is true.
type Rule struct {
	Matches []Match
	Verdict Verdict
	// Comment is kept in the kernel and shown by `nft list table inet mizzen`.
	Comment string
}

// Variant chooses between rules for current kernels and rules for every kernel.
type Variant int

const (
	// Full captures an inbound connection only if somebody listens on its port, and refuses direct calls to Envoy's
	// ports. It needs nft_socket, and reject in the prerouting hook (Linux 5.9).
	Full Variant = iota
	// Plain captures every inbound connection and drops direct calls to Envoy's ports. It ends no connections for the agent.
	Plain
)

// Rules returns the rules for s. It is pure.
func Rules(s Settings, v Variant) Ruleset {
	chains := []Chain{
		{Name: "output", Kind: NAT, Hook: Output, Priority: dstnatPriority, Rules: outputRules(s, v)},
		{Name: "prerouting", Kind: NAT, Hook: Prerouting, Priority: dstnatPriority, Rules: preroutingRules(s, v)},
	}
	chains = append(chains, Chain{Name: "strays", Kind: Filter, Hook: Prerouting, Priority: manglePriority, Rules: strays(s)})
	if len(s.PodAddresses) > 0 {
		chains = append(chains, Chain{Name: "postrouting", Kind: NAT, Hook: Postrouting, Priority: srcnatPriority, Rules: fromCaller(s)})
	}
	if s.CapturesOwnCalls && v == Full {
		chains = append(chains, Chain{Name: "early-ends", Kind: Filter, Hook: Prerouting, Priority: manglePriority, Rules: earlyEnds(s.NodeAddresses)})
	}
	if !s.endsConnections(v) {
		return Ruleset{Chains: chains}
	}
	chains = append(chains, Chain{Name: "ends", Kind: Filter, Hook: Input, Priority: afterNAT, Rules: ends(s)})
	return Ruleset{Sets: endsSets(), Chains: chains}
}

func outputRules(s Settings, v Variant) []Rule {
	var rules []Rule
	if s.endsConnections(v) {
		rules = nameEnds(s)
	}
	rules = append(rules, Rule{Matches: []Match{NotTCP{}}, Verdict: Return{}, Comment: "UDP and DNS are left alone"})
	rules = append(rules, toApplication(s)...)
	rules = append(rules, trialRule(s))
	rules = append(rules, ownCallRules(s)...)
	rules = append(rules, []Rule{
		// Only the UID counts, not the group: an application with group 1337 must not escape the mesh.
		{Matches: []Match{SocketUID(s.ProxyUID)}, Verdict: Return{}, Comment: "the sidecar's own calls"},
	}...)
	rules = append(rules, guardRules(s, v, LocalDestination{})...)
	rules = append(rules, Rule{
		Matches: []Match{LocalDestination{}}, Verdict: Return{}, Comment: "loopback and the pod's own addresses",
	})
	for _, p := range s.ExcludeOutboundPorts {
		rules = append(rules, Rule{Matches: []Match{DestPort(p)}, Verdict: Return{}, Comment: "excluded port"})
	}
	for _, p := range s.ExcludeOutboundCIDRs {
		rules = append(rules, Rule{Matches: []Match{DestPrefix(p)}, Verdict: Return{}, Comment: "excluded destination"})
	}
	return append(rules, Rule{Verdict: Redirect(s.OutboundPort), Comment: "to Envoy"})
}

// trialRule lets the sidecar, which may not read the rules, find out that they exist (Captured).
func trialRule(s Settings) Rule {
	return Rule{
		Matches: []Match{SocketUID(s.ProxyUID), SocketPriority(fixed.CallPriority), LocalDestination{}, DestPort(s.OutboundPort)},
		Verdict: Redirect(s.InboundPort), Comment: "the sidecar sees that the rules are there",
	}
}

// ownCallRules are for a pod that calls its own Service, if the sidecar chooses the pod itself. Connections of the
// sidecar to the application, and the agent's probes, do not have this priority.
func ownCallRules(s Settings) []Rule {
	if !s.CapturesOwnCalls {
		return nil
	}
	call := []Match{SocketUID(s.ProxyUID), SocketPriority(fixed.CallPriority), LocalDestination{}}
	var rules []Rule
	for _, p := range s.uncaptured() {
		rules = append(rules, Rule{Matches: append(slices.Clone(call), DestPort(p)), Verdict: Return{}, Comment: "excluded port"})
	}
	return append(rules, Rule{Matches: call, Verdict: Redirect(s.InboundPort), Comment: "the pod calls itself through Envoy"})
}

func preroutingRules(s Settings, v Variant) []Rule {
	rules := []Rule{
		{Matches: []Match{NotTCP{}}, Verdict: Return{}, Comment: "UDP and DNS are left alone"},
		{Matches: []Match{FromLoopback{}}, Verdict: Return{}, Comment: "the pod calls itself, or Envoy calls the application"},
		{Matches: []Match{ForeignDestination{}}, Verdict: Return{}, Comment: "forwarded by the pod, not for it"},
	}
	rules = append(rules, guardRules(s, v)...)
	rules = append(rules, Rule{
		Matches: []Match{DestPort(s.AgentPort)}, Verdict: Return{}, Comment: "the agent: probes and metrics",
	})
	for _, p := range s.uncaptured()[1:] {
		rules = append(rules, Rule{Matches: []Match{DestPort(p)}, Verdict: Return{}, Comment: "excluded port"})
	}
	if v == Plain {
		return append(rules, Rule{Verdict: Redirect(s.InboundPort), Comment: "to Envoy"})
	}
	// If nobody listens, the packet reaches the kernel, which refuses the connection. The caller then sees a real
	// connect failure, which is safe to retry, and not a connection that Envoy accepted and had to close. An
	// application that listens only on 127.0.0.1 stays private.
	return append(rules, Rule{
		Matches: []Match{HasSocket{}}, Verdict: Redirect(s.InboundPort), Comment: "to Envoy, where somebody listens",
	})
}

// guardRules refuse direct connections to Envoy's ports. The original destination of such a connection is Envoy itself,
// so Envoy could only call itself, or be used to bypass a policy.
func guardRules(s Settings, v Variant, also ...Match) []Rule {
	var verdict Verdict = Reject{}
	if v == Plain {
		verdict = Drop{}
	}
	var rules []Rule
	for _, p := range []uint16{s.OutboundPort, s.InboundPort} {
		rules = append(rules, Rule{
			Matches: append([]Match{DestPort(p)}, also...),
			Verdict: verdict,
			Comment: "Envoy takes captured connections only",
		})
	}
	return rules
}

// String returns the rules in the syntax of `nft -f`. --dry-run prints them.
func (r Ruleset) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "table inet %s {\n", TableName)
	for _, set := range r.Sets {
		b.WriteString(set.text())
		b.WriteByte('\n')
	}
	for i, c := range r.Chains {
		if i > 0 {
			b.WriteByte('\n')
		}
		fmt.Fprintf(&b, "\tchain %s {\n", c.Name)
		fmt.Fprintf(&b, "\t\ttype %s hook %s priority %d; policy accept;\n", c.Kind, c.Hook, c.Priority)
		for _, rule := range c.Rules {
			b.WriteString("\t\t")
			for _, m := range rule.Matches {
				b.WriteString(m.text())
				b.WriteByte(' ')
			}
			fmt.Fprintf(&b, "%s comment %q\n", rule.Verdict.text(), rule.Comment)
		}
		b.WriteString("\t}\n")
	}
	b.WriteString("}\n")
	return b.String()
}
