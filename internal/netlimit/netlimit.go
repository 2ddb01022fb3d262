// Package netlimit bounds the connections of a listener, so that one client cannot use up what all share.
// It may import the standard library only.
package netlimit

import (
	"net"
	"sync"
)

// Listener closes a connection at once that is one too many, of its address or of all.
type Listener struct {
	net.Listener
	// All and PerAddress are the largest numbers of open connections.
	All, PerAddress int
	// Refused is told the address of a connection that is closed at once. It must not block. Optional.
	Refused func(address string)

	mu     sync.Mutex
	open   int
	counts map[string]int
}

// Accept waits for a connection that is allowed.
func (l *Listener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		address := host(c.RemoteAddr())
		if l.enter(address) {
			return &conn{Conn: c, leave: sync.OnceFunc(func() { l.leave(address) })}, nil
		}
		_ = c.Close()
		if l.Refused != nil {
			l.Refused(address)
		}
	}
}

func (l *Listener) enter(address string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.open >= l.All || l.counts[address] >= l.PerAddress {
		return false
	}
	if l.counts == nil {
		l.counts = map[string]int{}
	}
	l.open++
	l.counts[address]++
	return true
}

func (l *Listener) leave(address string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open--
	if l.counts[address]--; l.counts[address] == 0 {
		delete(l.counts, address)
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

func host(a net.Addr) string {
	h, _, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return h
}
