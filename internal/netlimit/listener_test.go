package netlimit_test

import (
	"context"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/netlimit"
)

// dial connects from an address of loopback and tells whether the connection stays.
func dial(t *testing.T, to, from string) (net.Conn, bool) {
	t.Helper()
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	c, err := d.DialContext(context.Background(), "tcp", to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if err := c.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err = io.ReadFull(c, make([]byte, 1)) // the server greets
	return c, err == nil
}

func TestListener(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer inner.Close()
	refused := make(chan string, 10)
	l := netlimit.Listen(inner, 3, 2, func(client netip.Addr) { refused <- client.String() })
	ended := make(chan struct{}, 10)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				_, _ = c.Write([]byte("h"))
				_, _ = io.Copy(io.Discard, c)
				c.Close()
				c.Close() // a second one counts for nothing
				ended <- struct{}{}
			}()
		}
	}()
	addr := inner.Addr().String()
	first, ok := dial(t, addr, "127.0.0.1")
	if !ok {
		t.Fatal("the first connection is closed")
	}
	if _, ok := dial(t, addr, "127.0.0.1"); !ok {
		t.Error("the second connection is closed")
	}
	if _, ok := dial(t, addr, "127.0.0.1"); ok {
		t.Error("a third connection of the address stays")
	} else if got := <-refused; got != "127.0.0.1" {
		t.Errorf("refused %q", got)
	}
	if _, ok := dial(t, addr, "127.0.0.2"); !ok {
		t.Error("a connection of another address is closed")
	}
	if _, ok := dial(t, addr, "127.0.0.3"); ok {
		t.Error("a fourth connection of all stays")
	}
	first.Close()
	<-ended
	if _, ok := dial(t, addr, "127.0.0.1"); !ok {
		t.Error("the place of one that has ended is not free")
	}
}
