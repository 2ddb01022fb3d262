package transparency

import (
	"fmt"
	"net/netip"
)

var bytesPorts = []protocol{declaredTCP, undeclared}

// tcpExchanges are bytes without HTTP.
func tcpExchanges() []exchange {
	out := []exchange{whoCalls()}
	for _, size := range []int{1, 4, 5, 30, 1 << 10, 16 << 10, 64<<10 + 1, 1 << 20, 30 << 20} {
		out = append(out, upload(size), download(size))
		if size <= 1<<20 {
			out = append(out, echo(size))
		}
	}
	for _, size := range []int{1, 30, 1 << 10, 64 << 10, 1 << 20} {
		out = append(out, writeAndClose(size))
	}
	return out
}

func whoCalls() exchange {
	return exchange{
		name: "tcp/peer address", protocols: protocols,
		client: func(c *side) {
			c.sends("GET / HTTP/1.1\r\nHost: example.test\r\n\r\n")
			c.await("seen")
		},
		server: func(s *side) {
			s.caller(netip.MustParseAddr(podAddresses[s.layout.to].String()))
			s.tell("seen")
		},
	}
}

func sized(name string, size int) string { return fmt.Sprintf("tcp/%s/%d bytes", name, size) }

func weightOf(size int) int {
	switch {
	case size >= 8<<20:
		return 8
	case size >= 1<<20:
		return 2
	}
	return 1
}

// upload: the client sends, half-closes, and waits for the server's word.
func upload(size int) exchange {
	return exchange{
		name: sized("upload, half-close, answer", size), protocols: bytesPorts, weight: weightOf(size),
		client: func(c *side) {
			c.send(pattern(size))
			c.halfClose()
			c.rest()
		},
		server: func(s *side) {
			s.rest()
			s.sends("thanks")
			s.close()
		},
	}
}

// download: the client asks, the server answers and closes.
func download(size int) exchange {
	return exchange{
		name: sized("ask, download, server closes", size), protocols: bytesPorts, weight: weightOf(size),
		client: func(c *side) {
			c.sends("give\n")
			c.rest()
		},
		server: func(s *side) {
			s.receive(5)
			s.send(pattern(size))
			s.close()
		},
	}
}

func echo(size int) exchange {
	return exchange{
		name: sized("echo", size), protocols: bytesPorts, weight: weightOf(size),
		client: func(c *side) {
			go c.try(pattern(size))
			c.receive(size)
			c.close()
		},
		server: func(s *side) {
			s.send(s.receive(size))
			s.end()
		},
	}
}

// writeAndClose: the client waits for nothing.
func writeAndClose(size int) exchange {
	return exchange{
		name: sized("write and close", size), protocols: bytesPorts, times: 20, weight: weightOf(size),
		client: func(c *side) {
			c.send(pattern(size))
			c.close()
		},
		server: func(s *side) { s.rest() },
	}
}
