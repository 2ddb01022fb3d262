package contract

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// ParsePort reads one TCP port. The error names the flag, the value and the allowed values.
func ParsePort(flag, value string) (uint16, error) {
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 16)
	if err != nil || n == 0 {
		return 0, fmt.Errorf("%s: %q: want a port number, 1 to 65535", flag, value)
	}
	return uint16(n), nil
}

// ParsePorts reads a comma-separated list of TCP ports, sorted and without duplicates; an empty string means none. Like
// ParseCIDRs and ParseAddresses, it leaves bad values out, and reports them.
func ParsePorts(flag, list string) ([]uint16, error) {
	return parseList(list, func(text string) (uint16, error) { return ParsePort(flag, text) }, cmp.Compare)
}

// ParseCIDRs reads a comma-separated list of CIDRs or addresses of either IP family, sorted and without duplicates; an
// empty string means none. Host bits are cleared.
func ParseCIDRs(flag, list string) ([]netip.Prefix, error) {
	return parseList(list, func(text string) (netip.Prefix, error) {
		p, err := parsePrefix(text)
		if err != nil {
			return p, fmt.Errorf("%s: %q: want a CIDR such as 10.0.0.0/8 or fd00::/8, or one address", flag, text)
		}
		return p, nil
	}, netip.Prefix.Compare)
}

// ParseAddresses reads a comma-separated list of IP addresses, sorted and without duplicates; an empty string means
// none.
func ParseAddresses(flag, list string) ([]netip.Addr, error) {
	return parseList(list, func(text string) (netip.Addr, error) {
		ip, err := netip.ParseAddr(text)
		if err != nil || ip.Zone() != "" {
			return ip, fmt.Errorf("%s: %q: want an IP address such as 10.0.0.1 or fd00::1", flag, text)
		}
		return ip.Unmap(), nil
	}, netip.Addr.Compare)
}

func parsePrefix(s string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(s); err == nil {
		return addr.WithZone("").Unmap().Prefix(addr.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(s)
	return p.Masked(), err
}

func parseList[T comparable](list string, parse func(string) (T, error), compare func(a, b T) int) ([]T, error) {
	if strings.TrimSpace(list) == "" {
		return nil, nil
	}
	var out []T
	var errs []error
	for text := range strings.SplitSeq(list, ",") {
		v, err := parse(strings.TrimSpace(text))
		if err != nil {
			errs = append(errs, err)
			continue
		}
		out = append(out, v)
	}
	slices.SortFunc(out, compare)
	return slices.Compact(out), errors.Join(errs...)
}

// list formats a list that parseList reads.
func list[T any](in []T, text func(T) string) string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = text(v)
	}
	return strings.Join(out, ",")
}

func portText(port uint16) string { return strconv.Itoa(int(port)) }
