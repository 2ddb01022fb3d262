package capture

import (
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the goldens")

func TestRulesGolden(t *testing.T) {
	excludes := Default()
	excludes.ExcludeInboundPorts = []uint16{9090, 9091}
	excludes.ExcludeOutboundPorts = []uint16{3306}
	excludes.ExcludeOutboundCIDRs = []netip.Prefix{
		netip.MustParsePrefix("169.254.169.254/32"), netip.MustParsePrefix("fd00:dead::/32"),
	}
	own := excludes
	own.CapturesOwnCalls = true
	callers := own
	callers.PodAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.7"), netip.MustParseAddr("fd00::7")}
	callers.NodeAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("fd00::1")}
	other := Default()
	other.ProxyUID, other.OutboundPort, other.InboundPort = 4242, 16001, 16006

	for _, tt := range []struct {
		name     string
		settings Settings
		variant  Variant
	}{
		{"default", Default(), Full},
		{"default-plain", Default(), Plain},
		{"excludes", excludes, Full},
		{"own-calls", own, Full},
		{"callers", callers, Full},
		{"other-ports-and-uid", other, Full},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Rules(tt.settings, tt.variant).String()
			path := filepath.Join("testdata", tt.name+".nft")
			if *update {
				if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			if got != string(want) {
				t.Errorf("rules differ from %s (go test -update rewrites it):\n%s", path, got)
			}
		})
	}
}

func TestParse(t *testing.T) {
	ports := func(s string) (string, error) {
		p, err := ParsePorts("--x", s)
		return join(p, func(p uint16) string { return DestPort(p).text() }), err
	}
	cidrs := func(s string) (string, error) {
		p, err := ParseCIDRs("--x", s)
		return join(p, netip.Prefix.String), err
	}
	addresses := func(s string) (string, error) {
		p, err := ParseAddresses("--x", s)
		return join(p, netip.Addr.String), err
	}
	for _, tt := range []struct {
		name    string
		parse   func(string) (string, error)
		in      string
		want    string
		wantErr string
	}{
		{"no ports", ports, "", "", ""},
		{"ports sorted, once each", ports, "443, 80,443", "tcp dport 80,tcp dport 443", ""},
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

func join[T any](in []T, text func(T) string) string {
	out := make([]string, len(in))
	for i, v := range in {
		out[i] = text(v)
	}
	return strings.Join(out, ",")
}
