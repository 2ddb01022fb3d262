package wire

import (
	"bytes"
	"net"
	"net/netip"
	"os"
	"testing"
)

// What two addresses say is heard before it arrives, and what others say is not.
func TestHeard(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("needs root")
	}
	a, b, other := "127.0.50.1", "127.0.50.2", "127.0.50.3"
	w, err := Listen("/proc/self/ns/net", netip.MustParseAddr(a), netip.MustParseAddr(b))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.Close() })
	say(t, a, b, "from a to b")
	say(t, b, a, "from b to a")
	say(t, a, other, "from a to another")
	say(t, other, b, "from another to b")
	say(t, a, a, "from a to itself")
	got, err := w.Heard()
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]bool{
		"from a to b": true, "from b to a": true, "from a to another": false, "from another to b": false, "from a to itself": false,
	} {
		if bytes.Contains(got, []byte(text)) != want {
			t.Errorf("%q: heard %t, want %t", text, !want, want)
		}
	}
}

// say sends a packet and waits until it has arrived.
func say(t *testing.T, from, to, text string) {
	t.Helper()
	server, err := net.ListenPacket("udp4", to+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Close()
	client, err := net.ListenPacket("udp4", from+":0")
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if _, err := client.WriteTo([]byte(text), server.LocalAddr()); err != nil {
		t.Fatal(err)
	}
	if _, _, err := server.ReadFrom(make([]byte, 100)); err != nil {
		t.Fatal(err)
	}
}
