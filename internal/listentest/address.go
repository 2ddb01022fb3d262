package listentest

import (
	"net"
	"testing"
)

// FreeAddress returns an address of loopback, "<ip>:<port>", at which nobody listens. Another program may take it before it is used.
func FreeAddress(t *testing.T) string {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
