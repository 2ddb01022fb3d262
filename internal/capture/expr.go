package capture

import (
	"fmt"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// A Match is a condition on packets, as nft text and as expressions for the kernel.
type Match interface {
	text() string
	exprs() []any
}

// A Verdict is the action of a rule whose matches are all true.
type Verdict interface {
	text() string
	exprs() []any
}

type (
	// NotTCP matches every other transport protocol.
	NotTCP struct{}
	// SocketUID matches if the sending socket belongs to this user.
	SocketUID uint32
	// SocketPriority matches if the sending socket has this SO_PRIORITY.
	SocketPriority uint16
	// LocalDestination matches destination addresses of this network namespace, including loopback.
	LocalDestination struct{}
	// ForeignDestination is the opposite of LocalDestination.
	ForeignDestination struct{}
	// FromLoopback matches packets that arrive on lo.
	FromLoopback struct{}
	// DestPort is a TCP destination port.
	DestPort uint16
	// NotDestPort matches TCP to every other port.
	NotDestPort uint16
	// DestPrefix is a range of destination addresses in the prefix's family.
	DestPrefix netip.Prefix
	// HasSocket matches if a socket, listening ones included, would accept the packet. It is the kernel's own lookup,
	// so dual-stack, wildcard and SO_REUSEPORT sockets count.
	HasSocket struct{}
)

// register is the register for loads and comparisons; rules need only one.
const register = 1

// rtnLocal is fib's type of local addresses (linux/rtnetlink.h).
const rtnLocal = unix.RTN_LOCAL

func (NotTCP) text() string             { return "meta l4proto != tcp" }
func (m SocketUID) text() string        { return fmt.Sprintf("meta skuid %d", uint32(m)) }
func (m SocketPriority) text() string   { return fmt.Sprintf("meta priority 0:%x", uint16(m)) }
func (LocalDestination) text() string   { return "fib daddr type local" }
func (ForeignDestination) text() string { return "fib daddr type != local" }
func (FromLoopback) text() string       { return `iifname "lo"` }
func (m DestPort) text() string         { return fmt.Sprintf("tcp dport %d", uint16(m)) }
func (m NotDestPort) text() string      { return fmt.Sprintf("tcp dport != %d", uint16(m)) }

func (m DestPrefix) text() string {
	if netip.Prefix(m).Addr().Is4() {
		return "ip daddr " + netip.Prefix(m).String()
	}
	return "ip6 daddr " + netip.Prefix(m).String()
}

// Any value of the flag will do: the expression itself fails where there is no socket. "transparent"
// and not "wildcard", because it is older (Linux 4.18) and also reads sockets in TIME_WAIT:
// https://git.kernel.org/pub/scm/linux/kernel/git/torvalds/linux.git/tree/net/netfilter/nft_socket.c
func (HasSocket) text() string { return "socket transparent <= 1" }

func (NotTCP) exprs() []any { return tcp(expr.CmpOpNeq) }

func tcp(op expr.CmpOp) []any {
	return []any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register},
		compare(op, []byte{unix.IPPROTO_TCP}),
	}
}

// ofFamily matches packets of an IP family (NFPROTO_IPV4, NFPROTO_IPV6).
func ofFamily(family byte) []any {
	return []any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: register},
		compare(expr.CmpOpEq, []byte{family}),
	}
}

func (m SocketUID) exprs() []any {
	return []any{
		&expr.Meta{Key: expr.MetaKeySKUID, Register: register},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(uint32(m))),
	}
}

func (m SocketPriority) exprs() []any {
	return []any{
		&expr.Meta{Key: expr.MetaKeyPRIORITY, Register: register},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(uint32(m))),
	}
}

func (LocalDestination) exprs() []any   { return addressType(expr.CmpOpEq) }
func (ForeignDestination) exprs() []any { return addressType(expr.CmpOpNeq) }

func addressType(op expr.CmpOp) []any {
	return []any{
		&expr.Fib{Register: register, FlagDADDR: true, ResultADDRTYPE: true},
		compare(op, binaryutil.NativeEndian.PutUint32(rtnLocal)),
	}
}

func (FromLoopback) exprs() []any {
	name := make([]byte, unix.IFNAMSIZ)
	copy(name, "lo")
	return []any{
		&expr.Meta{Key: expr.MetaKeyIIFNAME, Register: register},
		compare(expr.CmpOpEq, name),
	}
}

// The expressions include the protocol, so that nft shows the rule as intended.
func (m DestPort) exprs() []any    { return destPort(expr.CmpOpEq, uint16(m)) }
func (m NotDestPort) exprs() []any { return destPort(expr.CmpOpNeq, uint16(m)) }

func destPort(op expr.CmpOp, port uint16) []any {
	return append(tcp(expr.CmpOpEq),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		compare(op, binaryutil.BigEndian.PutUint16(port)),
	)
}

func (m DestPrefix) exprs() []any {
	prefix := netip.Prefix(m)
	addr := prefix.Addr().AsSlice()
	offset := uint32(16)
	if prefix.Addr().Is6() {
		offset = 24
	}
	return append(ofFamily(family(prefix.Addr())),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))},
		&expr.Bitwise{
			SourceRegister: register, DestRegister: register, Len: uint32(len(addr)),
			Mask: mask(prefix.Bits(), len(addr)), Xor: make([]byte, len(addr)),
		},
		compare(expr.CmpOpEq, addr),
	)
}

func (HasSocket) exprs() []any {
	return []any{
		&expr.Socket{Key: expr.SocketKeyTransparent, Register: register},
		compare(expr.CmpOpLte, []byte{1}),
	}
}

func compare(op expr.CmpOp, data []byte) *expr.Cmp {
	return &expr.Cmp{Op: op, Register: register, Data: data}
}

func mask(bits, length int) []byte {
	m := make([]byte, length)
	for i := range bits {
		m[i/8] |= 0x80 >> (i % 8)
	}
	return m
}

type (
	// Return does not change the connection.
	Return struct{}
	// Redirect sends the connection to this port of the pod. The original destination stays readable.
	Redirect uint16
	// Reject answers with a TCP reset.
	Reject struct{}
	// Drop drops the packet without an answer.
	Drop struct{}
)

func (Return) text() string     { return "return" }
func (v Redirect) text() string { return fmt.Sprintf("meta l4proto tcp redirect to :%d", uint16(v)) }
func (Reject) text() string     { return "reject with tcp reset" }
func (Drop) text() string       { return "drop" }

func (Return) exprs() []any { return []any{&expr.Verdict{Kind: expr.VerdictReturn}} }
func (Drop) exprs() []any   { return []any{&expr.Verdict{Kind: expr.VerdictDrop}} }
func (Reject) exprs() []any { return []any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}} }

// The rule names the protocol, although NotTCP comes first in every chain: nft refuses to load rules that redirect to a
// port without a protocol.
func (v Redirect) exprs() []any {
	return append(tcp(expr.CmpOpEq),
		&expr.Immediate{Register: register, Data: binaryutil.BigEndian.PutUint16(uint16(v))},
		&expr.Redir{RegisterProtoMin: register},
	)
}
