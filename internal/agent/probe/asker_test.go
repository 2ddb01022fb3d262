package probe

import (
	"net/netip"
	"testing"
)

// A probe of the pod itself goes in the name of who asks, where that can be.
func TestAsker(t *testing.T) {
	for _, tt := range []struct{ name, pod, remote, addr, want string }{
		{"IPv4", "10.0.0.7", "10.0.0.1:40000", "10.0.0.7:8080", "10.0.0.1:8080"},
		{"IPv6", "fd00::7", "[fd00::1]:40000", "[fd00::7]:8080", "[fd00::1]:8080"},
		{"IPv4 over a dual-stack listener", "10.0.0.7", "[::ffff:10.0.0.1]:40000", "10.0.0.7:8080", "10.0.0.1:8080"},
		{"another family", "10.0.0.7", "[fd00::1]:40000", "10.0.0.7:8080", ""},
		{"another host", "10.0.0.7", "10.0.0.1:40000", "10.0.0.8:8080", ""},
		{"loopback", "10.0.0.7", "127.0.0.1:40000", "10.0.0.7:8080", ""},
		{"link-local", "fd00::7", "[fe80::1%eth0]:40000", "[fd00::7]:8080", ""},
		{"nobody", "10.0.0.7", "", "10.0.0.7:8080", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, ok := New(netip.MustParseAddr(tt.pod), true).asker(AskedBy(t.Context(), tt.remote), tt.addr)
			if got != tt.want || ok != (tt.want != "") {
				t.Errorf("got %q, %t, want %q", got, ok, tt.want)
			}
			if got, ok := New(netip.MustParseAddr(tt.pod), false).asker(AskedBy(t.Context(), tt.remote), tt.addr); ok {
				t.Errorf("where callers are not seen: %q", got)
			}
		})
	}
}
