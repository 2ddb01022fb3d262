// Package listentest has addresses and servers for tests. It imports nothing of this module.
package listentest

import "net"

// Serve calls handle for each connection, in a goroutine of its own, and closes the connection afterwards. It returns when l is closed.
func Serve(l net.Listener, handle func(net.Conn)) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer c.Close()
			handle(c)
		}()
	}
}
