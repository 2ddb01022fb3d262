package capture

import (
	"errors"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"golang.org/x/sys/unix"
)

// Installed describes the rules that the kernel accepted.
type Installed struct {
	// Variant is Full, or Plain if the kernel lacks an expression of Full.
	Variant Variant
	// WithoutCallers says why the application sees the pod's own address for all callers; nil if it sees the callers'
	// addresses.
	WithoutCallers error
	// WithoutRoute says why connections with a caller's address cost more than necessary; nil if they do not.
	WithoutRoute error
	// WithoutGateways says why the rules recognize the kubelet only by the given addresses; nil if the pod's routes
	// were readable.
	WithoutGateways error
}

// Describe returns one line with what is captured, and what the kernel could not do.
func (i Installed) Describe(s Settings) string {
	line := fmt.Sprintf("outbound to %d, inbound to %d, without user %d", s.OutboundPort, s.InboundPort, s.ProxyUID)
	if len(s.ExcludeInboundPorts) > 0 {
		line += fmt.Sprintf(", without inbound ports %v", s.ExcludeInboundPorts)
	}
	if len(s.ExcludeOutboundPorts) > 0 {
		line += fmt.Sprintf(", without outbound ports %v", s.ExcludeOutboundPorts)
	}
	if len(s.ExcludeOutboundCIDRs) > 0 {
		line += fmt.Sprintf(", without destinations %v", s.ExcludeOutboundCIDRs)
	}
	if i.Variant == Plain {
		line += "; this kernel lacks nft_socket or reject in prerouting, so ports without a listener are captured, too, and TCP probes succeed there"
	}
	if i.WithoutCallers != nil {
		line += "; the application sees the pod's own address as the address of all callers: " + i.WithoutCallers.Error()
	}
	if i.WithoutGateways != nil {
		line += "; TCP probes may take a second longer: " + i.WithoutGateways.Error()
	}
	if i.WithoutRoute != nil {
		line += "; each packet to the application costs a little more CPU: " + i.WithoutRoute.Error()
	}
	return line
}

// Install writes the rules for s, with the pod's addresses in a mesh with identities, into the network namespace of the calling thread.
func Install(s Settings) (Installed, error) {
	var out Installed
	if s.CapturesOwnCalls {
		s.NodeAddresses, out.WithoutGateways = nodeAddresses(s.NodeAddresses)
		s.PodAddresses, out.WithoutCallers = podAddresses()
		if out.WithoutCallers == nil {
			if out.WithoutCallers = Apply(Rules(s, Full)); out.WithoutCallers == nil {
				out.WithoutRoute = routeToSelf(s.PodAddresses)
				return out, nil
			}
		}
		s.PodAddresses = nil
	}
	err := Apply(Rules(s, Full))
	if err == nil {
		return out, nil
	}
	if !lacksExpression(err) {
		return out, err
	}
	out.Variant = Plain
	if plainErr := Apply(Rules(s, Plain)); plainErr != nil {
		return out, errors.Join(err, plainErr)
	}
	return out, nil
}

// Present reports whether our table is in the network namespace of the calling thread.
func Present() (bool, error) {
	conn, err := nftables.New()
	if err != nil {
		return false, fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	tables, err := conn.ListTablesOfFamily(nftables.TableFamilyINet)
	if err != nil {
		return false, fmt.Errorf("list nftables tables: %w", err)
	}
	return slices.ContainsFunc(tables, func(t *nftables.Table) bool { return t.Name == TableName }), nil
}

// lacksExpression reports whether the error means that the kernel lacks an expression (nft_socket is not built in:
// ENOENT; reject not in this hook, or an unknown key: EOPNOTSUPP).
func lacksExpression(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)
}

// Apply replaces our table by r in one transaction: traffic sees the old rules or the new ones, never a mixture or
// none. It does not touch other tables. Rules that the library cannot write follow at once.
func Apply(r Ruleset) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	// Adding first lets the deletion succeed if there is no table yet.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, set := range r.Sets {
		if err := set.add(conn, table); err != nil {
			return fmt.Errorf("set %s: %w", set.Name, err)
		}
	}
	var directed []Chain
	for _, c := range r.Chains {
		addChain(conn, table, c)
		if c.directed() {
			directed = append(directed, c)
		}
	}
	if err := conn.Flush(); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("write nftables rules: %w (needs the capability NET_ADMIN)", err)
		}
		return fmt.Errorf("write nftables rules: %w", err)
	}
	if err := appendDirected(directed); err != nil {
		return fmt.Errorf("write nftables rules with a direction: %w", err)
	}
	return nil
}

var hooks = map[Hook]*nftables.ChainHook{
	Output: nftables.ChainHookOutput, Prerouting: nftables.ChainHookPrerouting, Postrouting: nftables.ChainHookPostrouting,
	Input: nftables.ChainHookInput,
}

func addChain(conn *nftables.Conn, table *nftables.Table, c Chain) {
	chain := conn.AddChain(&nftables.Chain{
		Name:     c.Name,
		Table:    table,
		Type:     nftables.ChainType(c.Kind),
		Hooknum:  hooks[c.Hook],
		Priority: nftables.ChainPriorityRef(nftables.ChainPriority(c.Priority)),
	})
	if c.directed() {
		return
	}
	for _, rule := range c.Rules {
		var exprs []expr.Any
		for _, e := range rule.exprs() {
			exprs = append(exprs, e.(expr.Any))
		}
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain, Exprs: exprs,
			UserData: userdata.AppendString(nil, userdata.TypeComment, rule.Comment),
		})
	}
}
