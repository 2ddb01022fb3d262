package transparency

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"time"
)

// reportExchanges are what users of other meshes and proxies have reported.
func reportExchanges() []exchange {
	return slices.Concat(reportedHeaders(), slowReaders(), refusedUploads(), ownTLS(), []exchange{helloInParts(), chunksThereAndBack(), {
		// https://github.com/istio/istio/issues/28428: a server with few places for connections needs this one again.
		name: "http1/ends/client closes after the answer", protocols: httpPorts,
		client: func(c *side) { c.sends(asking("GET / HTTP/1.1")); c.response("GET"); c.close() },
		server: func(s *side) { s.request(); s.sends(ok); s.end() },
	}})
}

func reportedHeaders() []exchange {
	var out []exchange
	// https://github.com/envoyproxy/envoy/issues/43825
	for _, c := range []struct{ name, value string }{
		{"plain", "http://example.test/a?b"}, {"host with an underscore", "http://a_b.test/c"}, {"fragment", "http://example.test/a#b"},
		{"user", "http://a:b@example.test/"}, {"about:blank", "about:blank"}, {"app", "android-app://com.example/"}, {"urn", "urn:a:b"},
		{"path alone", "/a"}, {"space", "http://example.test/a b"}, {"empty", ""},
	} {
		out = append(out, answered("referer/"+c.name, asking("GET / HTTP/1.1", strings.TrimRight("Referer: "+c.value, " ")), ok),
			over2("referer/"+c.name, asks2(get2("GET", "/", "referer: "+c.value)...), serves2(ok2)))
	}
	// https://github.com/hashicorp/consul/issues/6657
	out = append(out, answered("hop-by-hop header of an answer/upgrade offered", asking("GET / HTTP/1.1"),
		"HTTP/1.1 200 OK\r\nUpgrade: h2,h2c\r\nConnection: Upgrade, Keep-Alive\r\nKeep-Alive: timeout=5\r\nContent-Length: 2\r\n\r\nok"))
	// https://github.com/quarkusio/quarkus/issues/53849
	for _, field := range []string{"connection: keep-alive", "keep-alive: timeout=5", "te: gzip", "transfer-encoding: chunked", "proxy-connection: keep-alive", "upgrade: h2c"} {
		name, _, _ := strings.Cut(field, ":")
		out = append(out,
			over2("hop-by-hop header/"+name, asks2(get2("GET", "/", field)...), serves2(ok2)),
			over2("hop-by-hop header of an answer/"+name, asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) { h.fields(s, true, ":status: 200", field) })))
	}
	return out
}

// slowReaders ask for the end of the connection behind the answer, as HTTP/1.0 clients do, and read it when all of it has been
// sent, and a while after. https://github.com/projectcontour/contour/issues/3285
func slowReaders() []exchange {
	var out []exchange
	for _, pause := range []time.Duration{0, 1500 * time.Millisecond} { // longer than Envoy's own patience
		for _, size := range []int{200 << 10, 1 << 20, 3 << 20} {
			out = append(out, exchange{
				name: fmt.Sprintf("http1/slow reader/%d bytes after %s", size, pause), protocols: httpPorts, weight: 2,
				client: func(c *side) {
					_ = c.conn.SetReadBuffer(64 << 10) // what does not fit waits in the sidecar
					c.sends(asking("GET / HTTP/1.1", "Connection: close"))
					time.Sleep(pause)
					if m, ok := c.head(); ok {
						c.note("%s, %s", m.start, text(c.exactly(size)))
					}
				},
				server: func(s *side) {
					s.note("%s", s.requestHead().start)
					s.sends(fmt.Sprintf("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n", size))
					s.try(pattern(size))
					s.close()
				},
			})
		}
	}
	return out
}

// refusedUploads are answered before the server has read them; it reads on, so that its end is no reset.
// https://github.com/linkerd/linkerd2/issues/14894
func refusedUploads() []exchange {
	var out []exchange
	for _, size := range []int{200 << 10, 2 << 20} {
		out = append(out, exchange{
			name: fmt.Sprintf("http1/refused upload/%d bytes", size), protocols: httpPorts, clientOnly: true, weight: 2,
			client: func(c *side) {
				c.sends(asking("POST / HTTP/1.1", fmt.Sprintf("Content-Length: %d", size)))
				go c.try(pattern(size))
				if m, ok := c.head(); ok {
					c.note("%s, %s", m.start, text(c.exactly(2)))
				}
			},
			server: func(s *side) {
				s.requestHead()
				s.sends("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
				_ = s.conn.CloseWrite()
				_ = s.conn.SetReadDeadline(time.Now().Add(s.patience / 2))
				_, _ = io.Copy(io.Discard, s.in)
				s.close()
			},
		})
	}
	return out
}

// ownTLS at ports that say HTTP. https://github.com/istio/istio/issues/16282
func ownTLS() []exchange {
	out := tlsExchanges()
	for i := range out {
		out[i].name = strings.Replace(out[i].name, "tcp/TLS/", "tcp/TLS at a port of HTTP/", 1)
		out[i].protocols = []protocol{declaredHTTP, declaredGRPC}
	}
	return out
}

// helloInParts is TLS of which the client's first message comes in many segments, as one with a key of post-quantum
// cryptography comes in several. https://github.com/envoyproxy/envoy/issues/33850
func helloInParts() exchange {
	both := func(s *side, t *tls.Conn) {
		_ = s.conn.SetDeadline(time.Now().Add(s.patience))
		if err := t.Handshake(); err != nil {
			s.fail("handshake: %s", ended(err))
		}
		s.note("handshake, then %s", ended(echoOnce(t)))
	}
	return exchange{
		name: "tcp/TLS/hello in parts", protocols: bytesPorts,
		client: func(c *side) {
			t := tls.Client(&inParts{Conn: c.conn}, &tls.Config{InsecureSkipVerify: true})
			go func() { _, _ = t.Write(pattern(5000)) }() // after the handshake
			both(c, t)
		},
		server: func(s *side) {
			own, err := certificate()
			if err != nil {
				s.fail("certificate: %v", err)
			}
			both(s, tls.Server(s.conn, &tls.Config{Certificates: []tls.Certificate{*own}}))
		},
	}
}

// echoOnce reads 5,000 bytes and writes them.
func echoOnce(t *tls.Conn) error {
	b := make([]byte, 5000)
	if _, err := io.ReadFull(t, b); err != nil {
		return err
	}
	_, err := t.Write(b)
	return err
}

// inParts sends what is written first in segments of some bytes.
type inParts struct {
	net.Conn
	began bool
}

func (c *inParts) Write(b []byte) (int, error) {
	if c.began {
		return c.Conn.Write(b)
	}
	c.began = true
	n := 0
	for part := range slices.Chunk(b, 40) {
		m, err := c.Conn.Write(part)
		n += m
		if err != nil {
			return n, err
		}
		time.Sleep(time.Millisecond) // or the kernel sends several at once
	}
	return n, nil
}

// chunksThereAndBack are not held back. https://github.com/istio/istio/issues/30333
func chunksThereAndBack() exchange {
	return exchange{
		name: "http1/streaming/many small chunks there and back", protocols: httpPorts,
		client: func(c *side) {
			c.sends(asking("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
			c.head()
			began := time.Now()
			for range 50 {
				c.sends("4\r\nping\r\n")
				c.chunk()
			}
			if took := time.Since(began); took > 50*40*time.Millisecond { // each waits for a delayed acknowledgement
				c.note("took %s", took)
			}
		},
		server: func(s *side) {
			s.requestHead()
			s.sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 50 {
				s.chunk()
				s.sends("4\r\n")
				s.sends("pong\r\n")
			}
		},
	}
}
