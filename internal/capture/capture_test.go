package capture

import (
	"encoding/json"
	"flag"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
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

// The node's process tells its settings to a plugin that may be of another version.
func TestSettingsAreReadByOtherVersions(t *testing.T) {
	const text = `{"ProxyUID":1337,"OutboundPort":15001,"InboundPort":15006,"AgentPort":15020,"CapturesOwnCalls":true,"PodAddresses":["10.0.0.7"],` +
		`"NodeAddresses":["10.0.0.1"],"ExcludeInboundPorts":[22],"ExcludeOutboundPorts":[25],"ExcludeOutboundCIDRs":["10.0.0.0/8"]}`
	want := Default()
	want.CapturesOwnCalls, want.ExcludeInboundPorts, want.ExcludeOutboundPorts = true, []uint16{22}, []uint16{25}
	want.PodAddresses, want.NodeAddresses = []netip.Addr{netip.MustParseAddr("10.0.0.7")}, []netip.Addr{netip.MustParseAddr("10.0.0.1")}
	want.ExcludeOutboundCIDRs = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	var read Settings
	if err := json.Unmarshal([]byte(text), &read); err != nil || !reflect.DeepEqual(read, want) {
		t.Errorf("%+v, %v, want %+v", read, err, want)
	}
	var before, now map[string]any
	written, err := json.Marshal(want)
	if err != nil || json.Unmarshal([]byte(text), &before) != nil || json.Unmarshal(written, &now) != nil || !reflect.DeepEqual(before, now) {
		t.Errorf("%v: written is %s, want %s", err, written, text)
	}
}
