package contract

import (
	"net/netip"
	"strings"
	"testing"
)

func TestParse(t *testing.T) {
	ports := func(s string) (string, error) {
		p, err := ParsePorts("--x", s)
		return list(p, portText), err
	}
	cidrs := func(s string) (string, error) {
		p, err := ParseCIDRs("--x", s)
		return list(p, netip.Prefix.String), err
	}
	addresses := func(s string) (string, error) {
		p, err := ParseAddresses("--x", s)
		return list(p, netip.Addr.String), err
	}
	for _, tt := range []struct {
		name    string
		parse   func(string) (string, error)
		in      string
		want    string
		wantErr string
	}{
		{"no ports", ports, "", "", ""},
		{"ports sorted, once each", ports, "443, 80,443", "80,443", ""},
		{"port 0", ports, "80,0", "", `--x: "0": want a port number, 1 to 65535`},
		{"port too high", ports, "65536", "", `--x: "65536": want a port number, 1 to 65535`},
		{"no number", ports, "http", "", `--x: "http": want a port number`},
		{"empty item", ports, "80,", "", `--x: "": want a port number`},
		{"no CIDRs", cidrs, " ", "", ""},
		{"host bits cleared", cidrs, "10.1.2.3/8", "10.0.0.0/8", ""},
		{"both families", cidrs, "fd00::/8,10.0.0.0/8,10.0.0.0/8", "10.0.0.0/8,fd00::/8", ""},
		{"one address", cidrs, "169.254.169.254,fe80::1", "169.254.169.254/32,fe80::1/128", ""},
		{"mapped address", cidrs, "::ffff:1.2.3.4", "1.2.3.4/32", ""},
		{"no addresses", addresses, "", "", ""},
		{"addresses", addresses, "fd00::1, 10.0.0.1,::ffff:10.0.0.1", "10.0.0.1,fd00::1", ""},
		{"address with a zone", addresses, "fe80::1%eth0", "", `--x: "fe80::1%eth0": want an IP address such as 10.0.0.1 or fd00::1`},
		{"everything", cidrs, "0.0.0.0/0,::/0", "0.0.0.0/0,::/0", ""},
		{"bad length", cidrs, "10.0.0.0/33", "", `--x: "10.0.0.0/33": want a CIDR`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.parse(tt.in)
			if tt.wantErr != "" {
				if err == nil || !strings.Contains(err.Error(), tt.wantErr) {
					t.Fatalf("error %v, want %q", err, tt.wantErr)
				}
				return
			}
			if err != nil || got != tt.want {
				t.Errorf("got %q, %v; want %q", got, err, tt.want)
			}
		})
	}
}
