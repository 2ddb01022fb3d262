package mesh

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"
)

// maxName is the longest name of a Service and the longest value of a label.
const maxName = 63

// GatewayName returns the name of a Gateway's objects, "<gateway>-<class>": of its pods' ServiceAccount, for example. Names of
// Gateways and classes may be longer than the name of a Service, have dots, or begin with a digit. Such a name is made one of
// a Service, with a hash that keeps it apart from others.
// https://gateway-api.sigs.k8s.io/geps/gep-1762/
func GatewayName(gateway, class string) string {
	name := gateway + "-" + class
	fit := strings.ReplaceAll(name, ".", "-")
	if c := fit[0]; c >= '0' && c <= '9' {
		fit = "gw-" + fit
	}
	if fit == name && len(fit) <= maxName {
		return fit
	}
	return withHash(fit, gateway+"/"+class)
}

// GatewayLabel returns the value of a label for the name of a Gateway or a class, which may be too long for one.
func GatewayLabel(name string) string {
	if len(name) <= maxName {
		return name
	}
	return withHash(name, name)
}

// withHash cuts a name at maxName, with a hash of what it stands for.
func withHash(name, of string) string {
	sum := sha256.Sum256([]byte(of))
	hash := "-" + hex.EncodeToString(sum[:4])
	if len(name) > maxName-len(hash) {
		name = strings.TrimRight(name[:maxName-len(hash)], "-.")
	}
	return name + hash
}

// GatewayAddresses returns the addresses that a Gateway asks for, without those whose value is left to the control plane. The
// error joins all that no Gateway of Mizzen can have.
// https://gateway-api.sigs.k8s.io/reference/spec/#gatewayspecaddress
func GatewayAddresses(gateway *gatewayv1.Gateway) ([]netip.Addr, error) {
	var out []netip.Addr
	var errs []error
	for i, a := range gateway.Spec.Addresses {
		refuse := func(name, value, want string) {
			errs = append(errs, fmt.Errorf("Gateway %s/%s: spec.addresses[%d].%s: %q: want %s", gateway.Namespace, gateway.Name, i, name, value, want))
		}
		if a.Type != nil && *a.Type != gatewayv1.IPAddressType {
			refuse("type", string(*a.Type), "IPAddress")
			continue
		}
		if a.Value == "" {
			continue
		}
		ip, err := netip.ParseAddr(a.Value)
		if err != nil || ip.Zone() != "" {
			refuse("value", a.Value, "an IP address such as 192.0.2.1 or 2001:db8::1")
			continue
		}
		out = append(out, ip)
	}
	return out, errors.Join(errs...)
}
