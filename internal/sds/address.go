package sds

import (
	"net/netip"
	"strings"
)

// How a sidecar learns who is at a pod's own address. Envoy asks its agent for each new connection, as it would ask a
// rate limit service, and waits; the agent asks the control plane once for an address, and is told when that changes.
const (
	// AddressDomain is the domain of Envoy's question, of which the one entry, AddressKey, is the destination, "<ip>:<port>".
	AddressDomain = "mizzen.dev/pod-addresses"
	AddressKey    = "destination"
	// AddressCluster and AddressIdentity are the fields of the answer: the cluster to take, and the SPIFFE ID that the peer
	// must have, absent for plain text.
	AddressCluster  = "cluster"
	AddressIdentity = "identity"
	// PodsCluster has mTLS with whoever is called by address, PlainCluster has plain text.
	PodsCluster  = "pods"
	PlainCluster = "passthrough"
	// AddressType is the type of the resources that an agent asks the control plane for, over delta xDS: under each name of
	// AddressName a google.protobuf.StringValue with the SPIFFE ID or PlainText.
	AddressType = "type.googleapis.com/mizzen.dev.PodAddress"
	// PlainText stands for the SPIFFE ID of who has none.
	PlainText = "plain"
	// MaxAddresses that one sidecar may ask for at a time.
	MaxAddresses = 4096
)

const addressPrefix = "pod/"

// AddressName names an address: "pod/<ip>:<port>". At some ports of a pod the sidecar answers, at others the application.
func AddressName(addr netip.AddrPort) string { return addressPrefix + addr.String() }

// Address reads what AddressName wrote.
func Address(name string) (netip.AddrPort, bool) {
	text, ok := strings.CutPrefix(name, addressPrefix)
	if !ok {
		return netip.AddrPort{}, false
	}
	addr, err := netip.ParseAddrPort(text)
	return addr, err == nil && AddressName(addr) == name
}
