package capture

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// A TCP probe of the kubelet connects, sends nothing and closes, and its close waits up to a second for the
// acknowledgement of its FIN. So the rules pass this FIN on at once, while they hold back the FIN of other silent
// clients, which may wait for the server to speak first. They recognize the probe by its address, and by three packets
// without content.

// silentEnds returns these rules.
func silentEnds(nodes []netip.Addr) []Rule {
	var rules []Rule
	for _, node := range nodes {
		silent := silentIPv4
		if node.Is6() {
			silent = silentIPv6
		}
		rules = append(rules, Rule{
			Matches: []Match{TCP{}, Source(node), End{}, timestamps, fewPackets, silent}, Verdict: Return{},
			Comment: "a TCP probe of the kubelet",
		})
	}
	return rules
}

// gateways returns the gateways of the pod's default routes. The node's kubelet calls from there if pods are behind a
// bridge or a router of the node, and otherwise from an address of the node.
func gateways() ([]netip.Addr, error) {
	var out []netip.Addr
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		routes, err := netlink.RouteListFiltered(family, &netlink.Route{Table: unix.RT_TABLE_MAIN}, netlink.RT_FILTER_TABLE)
		if err != nil {
			return nil, fmt.Errorf("the pod's routes: %w", err)
		}
		for _, r := range routes {
			if ip, ok := netip.AddrFromSlice(r.Gw); ok && isDefault(r) && !ip.Unmap().IsLinkLocalUnicast() {
				out = append(out, ip.Unmap())
			}
		}
	}
	return out, nil
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

// nodeAddresses returns the given addresses and the gateways.
func nodeAddresses(given []netip.Addr) ([]netip.Addr, error) {
	found, err := gateways()
	out := slices.Concat(given, found)
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out), err
}

type (
	// Source matches a source address.
	Source netip.Addr
	// HeaderWords matches TCP headers of this length, in words of 32 bits.
	HeaderWords byte
	// Packets matches while the client has sent at most this number of packets.
	Packets uint64
)

// A header with timestamps, the only option of packets after the handshake.
const timestamps HeaderWords = 8

// The handshake and the end.
const fewPackets Packets = 3

// A handshake and an end without a byte of content: 164 bytes over IPv4.
var (
	silentIPv4 = Small{unix.NFPROTO_IPV4, 54}
	silentIPv6 = Small{unix.NFPROTO_IPV6, 74}
)

func (m Source) text() string {
	if netip.Addr(m).Is4() {
		return "ip saddr " + netip.Addr(m).String()
	}
	return "ip6 saddr " + netip.Addr(m).String()
}

func (m HeaderWords) text() string { return fmt.Sprintf("tcp doff %d", byte(m)) }
func (m Packets) text() string     { return fmt.Sprintf("ct original packets <= %d", uint64(m)) }

func (m Source) exprs() []any {
	addr := netip.Addr(m).AsSlice()
	offset := uint32(12)
	if netip.Addr(m).Is6() {
		offset = 8
	}
	return append(ofFamily(family(netip.Addr(m))),
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: uint32(len(addr))},
		compare(expr.CmpOpEq, addr),
	)
}

func (m HeaderWords) exprs() []any {
	return []any{
		&expr.Payload{DestRegister: register, Base: expr.PayloadBaseTransportHeader, Offset: 12, Len: 1},
		&expr.Bitwise{SourceRegister: register, DestRegister: register, Len: 1, Mask: []byte{0xf0}, Xor: []byte{0}},
		compare(expr.CmpOpEq, []byte{byte(m) << 4}),
	}
}

func (m Packets) exprs() []any { return counter(expr.CtKeyPKTS, original, uint64(m)) }

// counter matches while a direction's counter is at most this.
func counter(key expr.CtKey, direction byte, most uint64) []any {
	return []any{
		&directedCt{key: key, direction: direction, register: register},
		// The kernel compares as bytes, from the most significant on.
		&expr.Byteorder{SourceRegister: register, DestRegister: register, Op: expr.ByteorderHton, Len: 8, Size: 8},
		&expr.Cmp{Op: expr.CmpOpLte, Register: register, Data: binaryutil.BigEndian.PutUint64(most)},
	}
}
