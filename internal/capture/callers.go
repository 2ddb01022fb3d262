package capture

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config/fixed"
)

// The application sees the caller's address, and the sidecar needs no privilege for that. To call the application with
// a caller's address, the sidecar connects to the caller's address, with the application's port as the destination port
// and with fixed.CallerPriority. The rules here turn that connection around: it goes to the pod's own address, with
// the caller's address as its source.

// toApplication returns the rules of the output hook. They come first.
func toApplication(s Settings) []Rule {
	var rules []Rule
	for _, pod := range s.PodAddresses {
		rules = append(rules, Rule{
			Matches: []Match{SocketUID(s.ProxyUID), SocketPriority(fixed.CallerPriority), FamilyOf(pod)},
			Verdict: DestinationTo(pod), Comment: "the sidecar calls the application in a caller's name",
		})
	}
	return rules
}

// fromCaller returns the rules of the postrouting hook, which sets the source of a connection.
func fromCaller(s Settings) []Rule {
	var rules []Rule
	for _, pod := range s.PodAddresses {
		rules = append(rules, Rule{
			Matches: []Match{TCP{}, SocketUID(s.ProxyUID), SocketPriority(fixed.CallerPriority), FamilyOf(pod)},
			Verdict: SourceToOriginalDestination(pod), Comment: "the caller's name",
		})
	}
	return rules
}

// earlyEnds returns rules that save the data of a client that closes at once. Envoy inspects the first bytes to
// distinguish mTLS from plain text. If the connection ends meanwhile, Envoy closes it without reading the data. So the
// rules drop the first two ends (FIN) of a connection without an answer. The client's kernel sends the FIN again each
// time, and the third one arrives about 400 ms after the first. If the client has sent less than five bytes, Envoy
// waits a second for more, so the rules drop the next two FINs, too.
// https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/network/listener_filter_buffer_impl.cc
//
// The chain sees each packet, so the rule for nearly all packets comes first.
func earlyEnds(nodes []netip.Addr) []Rule {
	rules := []Rule{
		{Matches: []Match{NoEnd{}}, Verdict: Return{}, Comment: "the connection goes on"},
		{Matches: []Match{FromLoopback{}}, Verdict: Return{}, Comment: "inside of the pod"},
	}
	rules = append(rules, silentEnds(nodes)...)
	mark := ConnectionMark(0)
	for i := range uint32(4) {
		matches := []Match{TCP{}, End{}, Redirected{}, mark, Unanswered{}}
		next := earlyEndMark + i + 1
		if i < 2 {
			rules = append(rules, Rule{Matches: matches, Verdict: DropAndMark(next), Comment: "the end is to come after Envoy's first look"})
		} else {
			for _, few := range []Match{smallIPv4, smallIPv6} {
				rules = append(rules, Rule{
					Matches: append(slices.Clone(matches), few), Verdict: DropAndMark(next),
					Comment: "nearly nothing was said, and Envoy waits for more",
				})
			}
		}
		mark = ConnectionMark(next)
	}
	return rules
}

// earlyEndMark, plus the number of dropped FINs, is the mark of a connection.
const earlyEndMark = 0x6d697a00

// podAddresses returns the pod's address in each family. Several addresses of one family are an error, because nobody
// could tell to which of them a connection was made.
func podAddresses() ([]netip.Addr, error) {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("the pod's addresses: %w", err)
	}
	var v4, v6 []netip.Addr
	for _, a := range interfaces {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, ok := netip.AddrFromSlice(n.IP)
		switch ip = ip.Unmap(); {
		case !ok || ip.IsLoopback() || ip.IsLinkLocalUnicast():
		case ip.Is4():
			v4 = append(v4, ip)
		default:
			v6 = append(v6, ip)
		}
	}
	if len(v4) > 1 || len(v6) > 1 {
		return nil, fmt.Errorf("the pod has several addresses of one family: %s", strings.Trim(fmt.Sprint(append(v4, v6...)), "[]"))
	}
	return append(v4, v6...), nil
}

type (
	// TCP matches TCP packets.
	TCP struct{}
	// FamilyOf matches packets of the address's IP family.
	FamilyOf netip.Addr
	// ConnectionMark matches packets of a connection with this mark.
	ConnectionMark uint32
	// Redirected matches packets from the client of a redirected connection.
	Redirected struct{}
	// End matches packets with FIN.
	End struct{}
	// NoEnd is the opposite of End. It is meaningless for other protocols.
	NoEnd struct{}
	// Unanswered matches while the server's packets have no content: their average length is at most 80 bytes.
	Unanswered struct{}
	// Small matches, in one IP family, while the average length of the client's packets is at most this.
	Small struct {
		Family byte
		Bytes  uint64
	}
)

// A handshake, an end and some bytes: 55 bytes a packet over IPv4, with four bytes of content.
var (
	smallIPv4 = Small{unix.NFPROTO_IPV4, 57}
	smallIPv6 = Small{unix.NFPROTO_IPV6, 77}
)

const unanswered = 80

func (TCP) text() string              { return "meta l4proto tcp" }
func (m FamilyOf) text() string       { return "meta nfproto " + familyName(netip.Addr(m)) }
func (m ConnectionMark) text() string { return fmt.Sprintf("ct mark 0x%x", uint32(m)) }
func (Redirected) text() string       { return "ct direction original ct status dnat" }
func (End) text() string              { return "tcp flags & fin == fin" }
func (NoEnd) text() string            { return "tcp flags & fin != fin" }
func (Unanswered) text() string       { return fmt.Sprintf("ct reply avgpkt <= %d", unanswered) }

func (m Small) text() string {
	family := "ipv4"
	if m.Family == unix.NFPROTO_IPV6 {
		family = "ipv6"
	}
	return fmt.Sprintf("meta nfproto %s ct original avgpkt <= %d", family, m.Bytes)
}

func familyName(ip netip.Addr) string {
	if ip.Is4() {
		return "ipv4"
	}
	return "ipv6"
}

func family(ip netip.Addr) byte {
	if ip.Is4() {
		return unix.NFPROTO_IPV4
	}
	return unix.NFPROTO_IPV6
}

func (TCP) exprs() []any        { return tcp(expr.CmpOpEq) }
func (m FamilyOf) exprs() []any { return ofFamily(family(netip.Addr(m))) }

// Directions of a connection (enum ip_conntrack_dir).
const (
	original = 0
	reply    = 1
)

func (m ConnectionMark) exprs() []any {
	return []any{
		&expr.Ct{Key: expr.CtKeyMARK, Register: register},
		compare(expr.CmpOpEq, binaryutil.NativeEndian.PutUint32(uint32(m))),
	}
}

func (Redirected) exprs() []any {
	const dstNAT = 1 << 5 // IPS_DST_NAT
	direction := []any{
		&expr.Ct{Key: expr.CtKeyDIRECTION, Register: register},
		compare(expr.CmpOpEq, []byte{original}),
	}
	return append(direction, bits(&expr.Ct{Key: expr.CtKeySTATUS, Register: register}, binaryutil.NativeEndian.PutUint32(dstNAT))...)
}

func (End) exprs() []any { return bits(flagsOfTCP(), fin) }

func (NoEnd) exprs() []any {
	return []any{
		flagsOfTCP(),
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: fin, Xor: []byte{0}},
		compare(expr.CmpOpEq, []byte{0}),
	}
}

var fin = []byte{1}

func flagsOfTCP() *expr.Payload {
	return &expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 13, Len: 1}
}

func (Unanswered) exprs() []any { return averagePacket(reply, unanswered) }

func (m Small) exprs() []any {
	return append(ofFamily(m.Family), averagePacket(original, m.Bytes)...)
}

// averagePacket matches while the average length of a direction's packets is at most this.
func averagePacket(direction byte, most uint64) []any {
	return counter(expr.CtKeyAVGPKT, direction, most)
}

// bits matches if one of these bits is set.
func bits(load any, mask []byte) []any {
	size := uint32(len(mask))
	return []any{
		load,
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: size, Mask: mask, Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: register, Data: make([]byte, size)},
	}
}

type (
	// DestinationTo sends the connection to this address, at the same port.
	DestinationTo netip.Addr
	// SourceToOriginalDestination sets the connection's source to its original destination, in the family of this
	// address.
	SourceToOriginalDestination netip.Addr
	// DropAndMark drops the packet and marks the connection.
	DropAndMark uint32
)

func (v DestinationTo) text() string {
	if netip.Addr(v).Is4() {
		return "dnat ip to " + netip.Addr(v).String()
	}
	return "dnat ip6 to " + netip.Addr(v).String()
}

func (v SourceToOriginalDestination) text() string {
	if netip.Addr(v).Is4() {
		return "snat ip to ct original ip daddr"
	}
	return "snat ip6 to ct original ip6 daddr"
}

func (v DropAndMark) text() string { return fmt.Sprintf("ct mark set 0x%x drop", uint32(v)) }

func (v DestinationTo) exprs() []any {
	return []any{
		&expr.Immediate{Register: register, Data: netip.Addr(v).AsSlice()},
		&expr.NAT{Type: expr.NATTypeDestNAT, Family: uint32(family(netip.Addr(v))), RegAddrMin: register},
	}
}

func (v SourceToOriginalDestination) exprs() []any {
	return []any{
		&expr.Ct{Key: expr.CtKeyDST, Direction: original, Register: register},
		&expr.NAT{Type: expr.NATTypeSourceNAT, Family: uint32(family(netip.Addr(v))), RegAddrMin: register},
	}
}

func (v DropAndMark) exprs() []any {
	return []any{
		&expr.Immediate{Register: register, Data: binaryutil.NativeEndian.PutUint32(uint32(v))},
		&expr.Ct{Key: expr.CtKeyMARK, SourceRegister: true, Register: register},
		&expr.Verdict{Kind: expr.VerdictDrop},
	}
}
