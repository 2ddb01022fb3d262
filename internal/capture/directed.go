package capture

import (
	"encoding/binary"
	"fmt"

	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// directedCt is expr.Ct with a direction, which the library supports for some keys only. So this file writes rules with
// directedCt itself, in the library's format.
type directedCt struct {
	key       expr.CtKey
	direction byte
	register  uint32
	set       bool
}

func (e *directedCt) marshal() ([]byte, error) {
	registerAttribute := uint16(unix.NFTA_CT_DREG)
	if e.set {
		registerAttribute = unix.NFTA_CT_SREG
	}
	ae := bigEndian()
	ae.String(unix.NFTA_EXPR_NAME, "ct")
	ae.Nested(unix.NFTA_EXPR_DATA, func(ae *netlink.AttributeEncoder) error {
		ae.ByteOrder = binary.BigEndian
		ae.Uint32(unix.NFTA_CT_KEY, uint32(e.key))
		ae.Uint32(registerAttribute, e.register)
		ae.Uint8(unix.NFTA_CT_DIRECTION, e.direction)
		return nil
	})
	return ae.Encode()
}

func bigEndian() *netlink.AttributeEncoder {
	ae := netlink.NewAttributeEncoder()
	ae.ByteOrder = binary.BigEndian
	return ae
}

// directed reports whether the chain has rules that the library cannot write.
func (c Chain) directed() bool {
	for _, r := range c.Rules {
		for _, e := range r.exprs() {
			if _, ok := e.(*directedCt); ok {
				return true
			}
		}
	}
	return false
}

func (r Rule) exprs() []any {
	var out []any
	for _, m := range r.Matches {
		out = append(out, m.exprs()...)
	}
	return append(out, r.Verdict.exprs()...)
}

// appendDirected appends rules to existing chains, as one transaction.
// https://wiki.nftables.org/wiki-nftables/index.php/Portal:DeveloperDocs/nftables_internals
func appendDirected(chains []Chain) error {
	if len(chains) == 0 {
		return nil
	}
	messages := []netlink.Message{batch(unix.NFNL_MSG_BATCH_BEGIN)}
	for _, c := range chains {
		for _, r := range c.Rules {
			m, err := newRule(c, r)
			if err != nil {
				return err
			}
			messages = append(messages, m)
		}
	}
	rules := len(messages) - 1
	messages = append(messages, batch(unix.NFNL_MSG_BATCH_END))
	conn, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	if _, err := conn.SendMessages(messages); err != nil {
		return err
	}
	for range rules { // one acknowledgement for each
		if _, err := conn.Receive(); err != nil {
			return err
		}
	}
	return nil
}

func batch(kind uint16) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(kind), Flags: netlink.Request},
		Data:   []byte{unix.AF_UNSPEC, unix.NFNETLINK_V0, 0, unix.NFNL_SUBSYS_NFTABLES},
	}
}

func newRule(c Chain, r Rule) (netlink.Message, error) {
	ae := bigEndian()
	ae.String(unix.NFTA_RULE_TABLE, TableName)
	ae.String(unix.NFTA_RULE_CHAIN, c.Name)
	ae.Nested(unix.NFTA_RULE_EXPRESSIONS, func(ae *netlink.AttributeEncoder) error {
		for _, e := range r.exprs() {
			data, err := marshal(e)
			if err != nil {
				return err
			}
			ae.Bytes(unix.NLA_F_NESTED|unix.NFTA_LIST_ELEM, data)
		}
		return nil
	})
	ae.Bytes(unix.NFTA_RULE_USERDATA, userdata.AppendString(nil, userdata.TypeComment, r.Comment))
	data, err := ae.Encode()
	if err != nil {
		return netlink.Message{}, fmt.Errorf("rule %q of chain %s: %w", r.Comment, c.Name, err)
	}
	return netlink.Message{
		Header: netlink.Header{
			Type:  netlink.HeaderType(unix.NFNL_SUBSYS_NFTABLES<<8 | unix.NFT_MSG_NEWRULE),
			Flags: netlink.Request | netlink.Acknowledge | netlink.Create | netlink.Append,
		},
		Data: append([]byte{unix.NFPROTO_INET, unix.NFNETLINK_V0, 0, 0}, data...),
	}, nil
}

func marshal(e any) ([]byte, error) {
	if d, ok := e.(*directedCt); ok {
		return d.marshal()
	}
	return expr.Marshal(unix.NFPROTO_INET, e.(expr.Any))
}
