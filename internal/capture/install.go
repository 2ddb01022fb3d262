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

// Install writes the rules for s into the network namespace of the calling thread and says which
// variant the kernel took: Full, or Plain where it refused Full for want of an expression.
func Install(s Settings) (Variant, error) {
	err := Apply(Rules(s, Full))
	if err == nil {
		return Full, nil
	}
	if !lacksExpression(err) {
		return Full, err
	}
	if plainErr := Apply(Rules(s, Plain)); plainErr != nil {
		return Plain, errors.Join(err, plainErr)
	}
	return Plain, nil
}

// lacksExpression tells a kernel without an expression (nft_socket is not built in: ENOENT; reject not
// in this hook, or an unknown key: EOPNOTSUPP) from every other failure.
func lacksExpression(err error) bool {
	return errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EOPNOTSUPP)
}

// Apply replaces our table by r, in one transaction: traffic sees the old rules or the new ones,
// never a mixture and never none. No other table is touched.
func Apply(r Ruleset) error {
	conn, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netfilter netlink socket: %w", err)
	}
	table := &nftables.Table{Family: nftables.TableFamilyINet, Name: TableName}
	// Adding first makes the deletion succeed also where there is no table yet.
	conn.AddTable(table)
	conn.DelTable(table)
	conn.AddTable(table)
	for _, c := range r.Chains {
		addChain(conn, table, c)
	}
	if err := conn.Flush(); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("write nftables rules: %w (needs the capability NET_ADMIN)", err)
		}
		return fmt.Errorf("write nftables rules: %w", err)
	}
	return nil
}

func addChain(conn *nftables.Conn, table *nftables.Table, c Chain) {
	hook := nftables.ChainHookOutput
	if c.Hook == Prerouting {
		hook = nftables.ChainHookPrerouting
	}
	chain := conn.AddChain(&nftables.Chain{
		Name:     string(c.Hook),
		Table:    table,
		Type:     nftables.ChainTypeNAT,
		Hooknum:  hook,
		Priority: nftables.ChainPriorityRef(dstnatPriority),
	})
	for _, rule := range c.Rules {
		var exprs []expr.Any
		for _, m := range rule.Matches {
			exprs = append(exprs, m.exprs()...)
		}
		conn.AddRule(&nftables.Rule{
			Table: table, Chain: chain,
			Exprs:    slices.Concat(exprs, rule.Verdict.exprs()),
			UserData: userdata.AppendString(nil, userdata.TypeComment, rule.Comment),
		})
	}
}
