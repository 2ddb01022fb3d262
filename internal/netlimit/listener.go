package netlimit

import (
	"net"
	"net/netip"
)

// Listener closes a connection at once that is one too many, of its address or of all.
type Listener struct {
	net.Listener
	limit   Limit[netip.Addr]
	refused func(client netip.Addr)
}

// Listen bounds the open connections of l: of all, and of each address. refused is told the client of a connection that
// is closed at once. It must not block, and may be nil.
func Listen(l net.Listener, all, perAddress int, refused func(client netip.Addr)) *Listener {
	return &Listener{Listener: l, limit: Limit[netip.Addr]{All: all, Each: perAddress}, refused: refused}
}

// Accept waits for a connection that is not too many.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		client := Client(c.RemoteAddr().String())
		if leave, ok := l.limit.Try(client); ok {
			return &conn{Conn: c, leave: leave}, nil
		}
		_ = c.Close()
		if l.refused != nil {
			l.refused(client)
		}
	}
}

type conn struct {
	net.Conn
	leave func()
}

func (c *conn) Close() error {
	c.leave()
	return c.Conn.Close()
}
