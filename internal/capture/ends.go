package capture

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// The agent can end a caller's connection, even a silent one, without Envoy's help and without any privilege. It sends
// a datagram with the connection's address to itself. The rules here read the datagram, and answer the caller's further
// packets on that connection with a reset. Envoy's keepalive makes a silent caller's kernel send a packet, which the
// rules then answer.
//
// The rules name a connection as Envoy does, by the caller's address and port after all address translation. If a
// caller has connections from one of its ports to two ports of the pod, these would be identical at Envoy's port, so
// the kernel gives one of them another source port: https://www.netfilter.org/documentation/HOWTO/NAT-HOWTO-6.html
// ("Implicit Source Port Mapping").

// Sets of connections that are to end, one for each IP family: the caller's address and port.
const (
	endsIPv4 = "ends-ipv4"
	endsIPv6 = "ends-ipv6"
)

const (
	// endsKept is how long a connection stays in the set. The caller must send a packet in that time. The agent adds
	// the connection again while it exists.
	endsKept = time.Minute
	// maxEnds bounds the kernel's memory.
	maxEnds = 16384
)

// ConnectionSet is a set of connections that rules fill. An entry stays for Timeout after it was last added.
type ConnectionSet struct {
	Name    string
	Family  byte
	Timeout time.Duration
	Size    uint32
}

func endsSets() []ConnectionSet {
	return []ConnectionSet{
		{Name: endsIPv4, Family: unix.NFPROTO_IPV4, Timeout: endsKept, Size: maxEnds},
		{Name: endsIPv6, Family: unix.NFPROTO_IPV6, Timeout: endsKept, Size: maxEnds},
	}
}

func (s ConnectionSet) text() string {
	address := "ipv4_addr"
	if s.Family == unix.NFPROTO_IPV6 {
		address = "ipv6_addr"
	}
	return fmt.Sprintf("\tset %s {\n\t\ttype %s . inet_service\n\t\tsize %d\n\t\tflags dynamic,timeout\n\t\ttimeout %s\n\t}\n",
		s.Name, address, s.Size, strings.TrimSuffix(s.Timeout.String(), "0s"))
}

func (s ConnectionSet) add(conn *nftables.Conn, table *nftables.Table) error {
	address := nftables.TypeIPAddr
	if s.Family == unix.NFPROTO_IPV6 {
		address = nftables.TypeIP6Addr
	}
	key, err := nftables.ConcatSetType(address, nftables.TypeInetService)
	if err != nil {
		return err
	}
	return conn.AddSet(&nftables.Set{
		Table: table, Name: s.Name, KeyType: key, Concatenation: true, Dynamic: true, HasTimeout: true, Timeout: s.Timeout, Size: s.Size,
	}, nil)
}

// endsConnections reports whether the rules end connections: only in a mesh with identities, because other meshes
// refuse nobody.
func (s Settings) endsConnections(v Variant) bool { return s.CapturesOwnCalls && v == Full }

// nameEnds returns the rules that read the agent's datagrams. In a NAT chain they cost packets of existing connections
// nothing.
func nameEnds(s Settings) []Rule {
	var rules []Rule
	for _, set := range endsSets() {
		rules = append(rules, Rule{
			Matches: []Match{UDP{}, SocketUID(s.ProxyUID), UDPPort(fixed.EndsPort), DatagramOf(set), LocalDestination{}},
			Verdict: AddAndDrop(set), Comment: "the agent names a connection that is to end",
		})
	}
	return rules
}

// ends returns the rules that answer callers. Each packet from outside passes here, so they only look into a set that
// is nearly always empty.
func ends(s Settings) []Rule {
	rules := []Rule{
		{Matches: []Match{FromLoopback{}}, Verdict: Return{}, Comment: "inside of the pod"},
		{Matches: []Match{NotDestPort(s.InboundPort)}, Verdict: Return{}, Comment: "not to Envoy"},
	}
	for _, set := range endsSets() {
		rules = append(rules, Rule{
			Matches: []Match{familyIs(set.Family), TCP{}, Opening{}, InSet(set)},
			Verdict: RemoveAndReturn(set), Comment: "another connection from the same port",
		}, Rule{
			// The caller's own reset must reach Envoy, so that Envoy learns of the end.
			Matches: []Match{familyIs(set.Family), TCP{}, InSet(set), NoReset{}},
			Verdict: Reject{}, Comment: "is not to live any more",
		})
	}
	return rules
}

// ErrNotTaken says that no rule has read the datagram: the rules do not exist, or the set is full.
var ErrNotTaken = errors.New("the capture rules did not end it: this kernel lacks an expression that they need (see the log of the init container), or too many connections are to end")

// EndConnection makes the rules end the connection with this caller address, as Envoy sees it. It must be called as the
// sidecar's user. Data that the caller has not acknowledged or still sends is lost.
func EndConnection(caller netip.AddrPort) error {
	to, err := net.DialUDP("udp4", nil, &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: fixed.EndsPort})
	if err != nil {
		return err
	}
	defer to.Close()
	name := binary.BigEndian.AppendUint16(caller.Addr().Unmap().AsSlice(), caller.Port())
	// The kernel reports an error to the sender of a dropped packet.
	if _, err = to.Write(name); errors.Is(err, unix.EPERM) {
		return nil
	} else if err != nil {
		return err
	}
	return ErrNotTaken
}

// CanEnd reports whether the rules end connections. It tries with a connection that does not exist. It must be called
// as the sidecar's user.
func CanEnd() error { return EndConnection(netip.AddrPortFrom(nobodyIPv4, 1)) }

type (
	// UDP matches UDP packets.
	UDP struct{}
	// UDPPort matches a UDP destination port.
	UDPPort uint16
	// familyIs matches packets of an IP family.
	familyIs byte
	// DatagramOf matches datagrams that are as long as a connection's name in the set's family.
	DatagramOf ConnectionSet
	// InSet matches packets of callers in the set.
	InSet ConnectionSet
	// Opening matches the first packet of a connection.
	Opening struct{}
	// NoReset matches TCP packets without RST.
	NoReset struct{}
	// AddAndDrop adds the caller in a datagram to the set, and drops the datagram. If the set is full, the next rule
	// follows.
	AddAndDrop ConnectionSet
	// RemoveAndReturn removes the packet's caller from the set.
	RemoveAndReturn ConnectionSet
)

func (s ConnectionSet) addressSize() uint32 {
	if s.Family == unix.NFPROTO_IPV6 {
		return 16
	}
	return 4
}

// A datagram is a header, address and port.
func (s ConnectionSet) datagramSize() uint16 { return uint16(8 + s.addressSize() + 2) }

func (UDP) text() string { return "meta l4proto udp" }

func (m UDPPort) text() string { return fmt.Sprintf("udp dport %d", uint16(m)) }

func (m familyIs) text() string {
	if m == unix.NFPROTO_IPV6 {
		return "meta nfproto ipv6"
	}
	return "meta nfproto ipv4"
}

func (m DatagramOf) text() string {
	return fmt.Sprintf("udp length %d", ConnectionSet(m).datagramSize())
}

func (s ConnectionSet) packetText() string {
	ip := "ip"
	if s.Family == unix.NFPROTO_IPV6 {
		ip = "ip6"
	}
	return ip + " saddr . tcp sport"
}

func (m InSet) text() string { return ConnectionSet(m).packetText() + " @" + m.Name }

func (Opening) text() string { return "tcp flags & (syn | ack) == syn" }

func (NoReset) text() string { return "tcp flags & rst != rst" }

func (v AddAndDrop) text() string {
	bits := 8 * ConnectionSet(v).addressSize()
	return fmt.Sprintf("update @%s { @th,64,%d . @th,%d,16 } drop", v.Name, bits, 64+bits)
}

func (v RemoveAndReturn) text() string {
	return fmt.Sprintf("delete @%s { %s } return", v.Name, ConnectionSet(v).packetText())
}

func (UDP) exprs() []any {
	return []any{&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: register}, compare(expr.CmpOpEq, []byte{unix.IPPROTO_UDP})}
}

func (m UDPPort) exprs() []any {
	return []any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(uint16(m))),
	}
}

func (m familyIs) exprs() []any { return ofFamily(byte(m)) }

func (m DatagramOf) exprs() []any {
	return []any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 4, Len: 2},
		compare(expr.CmpOpEq, binaryutil.BigEndian.PutUint16(ConnectionSet(m).datagramSize())),
	}
}

// Registers of four bytes each, which begin where register does: a key has its parts one behind the other.
const firstRegister = unix.NFT_REG32_00

// key loads both parts of a connection's name.
func (s ConnectionSet) key(base expr.PayloadBase, address, port uint32) []any {
	size := s.addressSize()
	return []any{
		&expr.Payload{DestRegister: firstRegister, Base: base, Offset: address, Len: size},
		&expr.Payload{DestRegister: firstRegister + size/4, Base: expr.PayloadBaseTransportHeader, Offset: port, Len: 2},
	}
}

// packetKey loads the name of the connection of a packet from outside.
func (s ConnectionSet) packetKey() []any {
	address := uint32(12)
	if s.Family == unix.NFPROTO_IPV6 {
		address = 8
	}
	return s.key(expr.PayloadBaseNetworkHeader, address, 0)
}

func (m InSet) exprs() []any {
	return append(ConnectionSet(m).packetKey(), &expr.Lookup{SourceRegister: firstRegister, SetName: m.Name})
}

// Flags of TCP.
const syn, rst, ack = 1 << 1, 1 << 2, 1 << 4

func (Opening) exprs() []any { return flagsAre(syn|ack, syn) }
func (NoReset) exprs() []any { return flagsAre(rst, 0) }

func flagsAre(mask, value byte) []any {
	return []any{
		flagsOfTCP(),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{mask}, Xor: []byte{0}},
		compare(expr.CmpOpEq, []byte{value}),
	}
}

// opDelete is NFT_DYNSET_OP_DELETE (Linux 5.4).
const opDelete = 2

func (v RemoveAndReturn) exprs() []any {
	return append(ConnectionSet(v).packetKey(),
		&expr.Dynset{SrcRegKey: firstRegister, SetName: v.Name, Operation: opDelete},
		&expr.Verdict{Kind: expr.VerdictReturn})
}

func (v AddAndDrop) exprs() []any {
	const content = 8
	size := ConnectionSet(v).addressSize()
	return append(ConnectionSet(v).key(expr.PayloadBaseTransportHeader, content, content+size),
		&expr.Dynset{SrcRegKey: firstRegister, SetName: v.Name, Operation: unix.NFT_DYNSET_OP_UPDATE, Timeout: v.Timeout},
		&expr.Verdict{Kind: expr.VerdictDrop})
}
