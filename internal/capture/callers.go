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

	"github.com/mizzen-mesh/mizzen/config"
)

// The application sees who calls, and the sidecar needs no privilege for it. To call the application in a caller's name
// the sidecar connects to the caller's address, with the application's port and config.CallerPriority. The rules here
// turn that connection around: it goes to the pod's own address, and comes from the address that it was made to.

// toApplication are the rules of the output hook. They come first.
func toApplication(s Settings) []Rule {
	var rules []Rule
	for _, pod := range s.PodAddresses {
		rules = append(rules, Rule{
			Matches: []Match{SocketUID(s.ProxyUID), SocketPriority(config.CallerPriority), FamilyOf(pod)},
			Verdict: DestinationTo(pod), Comment: "the sidecar calls the application in a caller's name",
		})
	}
	return rules
}

// fromCaller are the rules of the postrouting hook, in which the source of a connection is decided.
func fromCaller(s Settings) []Rule {
	var rules []Rule
	for _, pod := range s.PodAddresses {
		rules = append(rules, Rule{
			Matches: []Match{TCP{}, SocketUID(s.ProxyUID), SocketPriority(config.CallerPriority), FamilyOf(pod)},
			Verdict: SourceToOriginalDestination(pod), Comment: "the caller's name",
		})
	}
	return rules
}

// earlyEnds keep what a client says before it closes at once. While Envoy looks at what comes first, to tell mTLS from
// plain text, an end of the connection makes it close without a look. So the first two ends of a connection on which
// nothing has been answered yet are dropped: the client's kernel sends it again each time, and the third one comes some
// 400 ms after the first. With less than five bytes Envoy waits a second for more, so there the next two are dropped, too.
// https://github.com/envoyproxy/envoy/blob/v1.40.0/source/common/network/listener_filter_buffer_impl.cc
//
// It sees each packet, so what nearly all of them are stands first.
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

// earlyEndMark and the number of ends that were dropped is the mark of a connection.
const earlyEndMark = 0x6d697a00

// podAddresses gives the one address of the pod in each family. Of a pod with several of one family nobody could tell
// which of them a connection was made to, so that is an error.
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
	// TCP holds for TCP.
	TCP struct{}
	// FamilyOf holds for packets of the address's IP family.
	FamilyOf netip.Addr
	// ConnectionMark holds where the connection has this mark.
	ConnectionMark uint32
	// Redirected holds for packets of the beginning side of a connection that was redirected.
	Redirected struct{}
	// End holds for packets with FIN.
	End struct{}
	// NoEnd is the opposite of End. What it says of other protocols means nothing.
	NoEnd struct{}
	// Unanswered holds while the packets of the answering side have no content: they are 80 bytes long at most on
	// the average.
	Unanswered struct{}
	// Small holds while the packets of the beginning side are so long at most on the average, in one IP family.
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

// averagePacket holds while the packets of a direction are so long at most.
func averagePacket(direction byte, most uint64) []any {
	return counter(expr.CtKeyAVGPKT, direction, most)
}

// bits hold where one of these is set.
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
	// SourceToOriginalDestination has the connection come from the address that it was made to, of this one's family.
	SourceToOriginalDestination netip.Addr
	// DropAndMark gives no answer and marks the connection.
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
