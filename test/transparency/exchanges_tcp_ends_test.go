package transparency

import (
	"bytes"
	"fmt"
	"time"
)

// tcpEnds are the ends of connections, in each order and at each moment.
func tcpEnds() []exchange {
	x := func(name string, client, server func(*side)) exchange {
		return exchange{name: "tcp/ends/" + name, protocols: bytesPorts, client: client, server: server}
	}
	out := []exchange{
		x("client opens and closes", func(c *side) { c.await("open"); c.close() }, func(s *side) { s.tell("open"); s.end() }),
		x("client opens and half-closes, server answers", func(c *side) { c.halfClose(); c.rest() }, func(s *side) { s.end(); s.sends("bye"); s.close() }),
		x("server closes at once", func(c *side) { c.end() }, func(s *side) { s.close() }),
		x("server resets at once", func(c *side) { c.tell("open"); c.gone() }, func(s *side) { s.await("open"); s.reset() }),
		x("server writes and closes", func(c *side) { c.rest() }, func(s *side) { s.sends("hello and bye"); s.close() }),
		x("server half-closes, client goes on", func(c *side) { c.sends("hello"); c.rest(); c.sends("more"); c.close() }, func(s *side) {
			s.receive(5)
			s.sends("bye")
			s.halfClose()
			s.rest()
		}),
		x("both half-close", func(c *side) { c.sends("hello"); c.receive(5); c.halfClose(); c.end() }, func(s *side) {
			s.receive(5)
			s.sends("hello")
			s.halfClose()
			s.end()
		}),
		x("client closes, server is still sending", func(c *side) { c.sends("give"); c.receive(1000); c.close() }, func(s *side) {
			s.receive(4)
			s.send(pattern(1000))
			s.sendsUntilGone()
		}),
		x("server closes, client is still sending", func(c *side) { c.sends("hello"); c.receive(2); c.tell("read"); c.sendsUntilGone() }, func(s *side) {
			s.receive(5)
			s.sends("no")
			s.await("read")
			s.reset()
		}),
		x("client resets while the server waits", func(c *side) { c.sends("hello"); c.receive(2); c.reset() }, func(s *side) {
			s.receive(5)
			s.sends("hi")
			s.end()
		}),
		x("server resets while the client waits", func(c *side) { c.sends("hello"); c.receive(2); c.tell("read"); c.end() }, func(s *side) {
			s.receive(5)
			s.sends("hi")
			s.await("read")
			s.reset()
		}),
		x("client resets half-closed", func(c *side) { c.sends("hello"); c.receive(2); c.halfClose(); c.await("seen"); c.reset() }, func(s *side) {
			s.receive(5)
			s.sends("hi")
			s.end()
			s.tell("seen")
			s.sendsUntilGone()
		}),
		x("silence before the first byte", func(c *side) { c.silent(); time.Sleep(1500 * time.Millisecond); c.sends("late"); c.receive(4) }, func(s *side) { s.send(s.receive(4)) }),
		x("silence in between", func(c *side) { c.sends("ping"); c.receive(4); c.silent(); c.sends("ping"); c.receive(4) }, func(s *side) {
			s.send(s.receive(4))
			s.send(s.receive(4))
		}),
		x("a hundred rounds", func(c *side) {
			for range 100 {
				c.sends("ping")
				c.receive(4)
			}
		}, func(s *side) {
			for range 100 {
				s.send(s.receive(4))
			}
		}),
		x("byte by byte", func(c *side) {
			for i, b := range []byte("\x01hello") {
				c.send([]byte{b})
				c.await(fmt.Sprint(i))
			}
			c.receive(2)
		}, func(s *side) {
			for i := range 6 {
				s.receive(1)
				s.tell(fmt.Sprint(i))
			}
			s.sends("ok")
		}),
	}
	out[3].clientOnly = true // a sidecar may take it for a refusal and try again
	for _, size := range []int{1, 30, 100, 64 << 10} {
		out = append(out, x(fmt.Sprintf("server speaks first, %d bytes", size), func(c *side) { c.receive(size); c.waited(); c.sends("hello"); c.receive(2); c.close() }, func(s *side) {
			s.send(pattern(size))
			s.receive(5)
			s.sends("ok")
			s.end()
		}))
	}
	return out
}

// sendsUntilGone sends until the other end is gone, or its silence has become an end.
func (s *side) sendsUntilGone() {
	for deadline := time.Now().Add(s.patience); time.Now().Before(deadline); time.Sleep(5 * time.Millisecond) {
		_ = s.conn.SetWriteDeadline(time.Now().Add(time.Second))
		if _, err := s.conn.Write(pattern(100)); err != nil && ended(err) != "open" {
			s.note("finds the other end gone")
			return
		}
	}
	s.fail("goes on sending, and nobody ends it")
}

// firstBytes are how protocols begin in which the client speaks first; the answer has to come at once.
var firstBytes = []struct{ name, text string }{
	{"LDAP, anonymous bind", "0\x0c\x02\x01\x01`\x07\x02\x01\x03\x04\x00\x80\x00"}, {"JDWP", "JDWP-Handshake"}, {"git daemon", "003egit-upload-pack /a.git\x00host=example.test\x00"},
	{"Redis", "*1\r\n$4\r\nPING\r\n"}, {"Redis, inline", "PING\r\n"}, {"memcached", "get a\r\n"}, {"memcached, stats", "stats\r\n"}, {"memcached, binary", "\x80\x0b" + string(make([]byte, 22))},
	{"ZooKeeper, a word", "ruok"}, {"syslog, octets counted", "5 <1>a"}, {"PostgreSQL", "\x00\x00\x00\x08\x04\xd2\x16\x2f"}, {"MQTT", "\x10\x0c\x00\x04MQTT\x04\x02\x00<\x00\x00"},
	{"AMQP", "AMQP\x00\x00\x09\x01"}, {"Kafka", "\x00\x00\x00\x0a\x00\x12\x00\x03\x00\x00\x00\x01\x00\x00"}, {"MongoDB", "\x10\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xdd\x07\x00\x00"}, {"NATS", "CONNECT {}\r\n"},
	{"RESP3", "HELLO 3\r\n"}, {"SIP", "OPTIONS sip:a@example.test SIP/2.0\r\n\r\n"}, {"RTSP", "OPTIONS rtsp://example.test/a RTSP/1.0\r\nCSeq: 1\r\n\r\n"}, {"ICAP", "OPTIONS icap://example.test/a ICAP/1.0\r\nHost: example.test\r\n\r\n"},
	{"SSH", "SSH-2.0-a\r\n"}, {"gopher", "/a\r\n"}, {"finger", "root\r\n"}, {"IRC", "NICK a\r\n"}, {"FIX", "8=FIX.4.2\x019=5\x01"}, {"graphite", "a.b.c 1 1700000000\n"}, {"STOMP", "CONNECT\naccept-version:1.2\n\n\x00"}, {"beanstalkd", "list-tubes\r\n"},
	{"one byte", "?"}, {"a word", "hello"}, {"a line", "hello\n"}, {"GET alone", "GET\n"}, {"an HTTP answer", "HTTP/1.1 200 OK\r\n\r\n"}, {"HTTP/0.9", "GET /a\r\n"}, {"JSON", "{\"a\":1}\n"}, {"zeros", "\x00\x00\x00\x00\x00\x00\x00\x00"},
}

// tcpFirstBytes are words of clients, each answered.
func tcpFirstBytes() []exchange {
	var out []exchange
	for _, f := range firstBytes {
		out = append(out, exchange{
			name: "tcp/first bytes/" + f.name, protocols: bytesPorts,
			client: func(c *side) {
				c.sends(f.text)
				c.receive(2)
				c.waited()
				c.halfClose()
				c.end()
			},
			server: func(s *side) {
				s.receive(len(f.text))
				s.sends("ok")
				s.end()
				s.close()
			},
		})
	}
	for _, size := range []int{8 << 10, 60 << 10, 100 << 10, 1 << 20} {
		word := bytes.Repeat([]byte("abcdef0123456789"), size/16)
		out = append(out, exchange{
			name: fmt.Sprintf("tcp/one long word/%d bytes", size), protocols: bytesPorts,
			client: func(c *side) {
				c.send(word)
				c.receive(2)
			},
			server: func(s *side) {
				s.receive(len(word))
				s.sends("ok")
			},
		})
	}
	return out
}

// waited notes whether it took as long until now as a sidecar looks at a connection that says too little: a second, or
// somewhat less, for Envoy's clock is that of the last event.
func (s *side) waited() {
	if time.Since(s.born) > 600*time.Millisecond {
		s.note("has waited for a second")
	}
}
