package envoy

import (
	"net/netip"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Who speaks of plain text means the same.
func TestPlainText(t *testing.T) {
	if sds.PlainText != mesh.PlainText {
		t.Errorf("%q and %q", sds.PlainText, mesh.PlainText)
	}
}

func TestPodAddress(t *testing.T) {
	for name, want := range map[string]string{
		"pod/10.0.0.1:80":    "10.0.0.1:80",
		"pod/[fd00::1]:80":   "[fd00::1]:80",
		"10.0.0.1:80":        "",
		"pod/10.0.0.1":       "",
		"pod/fd00::1:80":     "",
		"pod/10.0.0.01:80":   "",
		"pod/[FD00::1]:80":   "", // Envoy writes it in one way only
		"pod/10.0.0.1:080":   "",
		"pod/10.0.0.1:70000": "",
		"pod/":               "",
	} {
		got, ok := sds.Address(name)
		if ok != (want != "") || (ok && got != netip.MustParseAddrPort(want)) {
			t.Errorf("%s: %v, %v", name, got, ok)
		}
	}
}
