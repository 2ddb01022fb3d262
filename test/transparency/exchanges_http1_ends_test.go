package transparency

import (
	"fmt"
	"strings"
)

// http1Ends are exchanges in which more happens than a request and an answer.
func http1Ends() []exchange {
	x := func(name string, client, server func(*side)) exchange {
		return exchange{name: "http1/" + name, protocols: httpPorts, client: client, server: server}
	}
	get := asking("GET / HTTP/1.1")
	asks := func(c *side) { c.sends(get) }
	out := []exchange{
		x("ends/client half-closes after its request", func(c *side) { asks(c); c.halfClose(); c.response("GET") }, func(s *side) { s.request(); s.sends(ok) }),
		x("ends/client closes before the answer", func(c *side) { asks(c); c.await("asked"); c.close() }, func(s *side) { s.request(); s.tell("asked"); s.gone() }),
		x("ends/client resets before the answer", func(c *side) { asks(c); c.await("asked"); c.reset() }, func(s *side) { s.request(); s.tell("asked"); s.gone() }),
		x("ends/client closes in the middle of its body", func(c *side) {
			c.sends(asking("POST / HTTP/1.1", "Content-Length: 10") + "hello")
			c.await("part")
			c.close()
		}, func(s *side) {
			s.note("%s", s.requestHead().start)
			s.note("%s", text(s.exactly(5)))
			s.tell("part")
			s.gone()
		}),
		x("ends/client closes in the middle of the answer", func(c *side) { asks(c); c.head(); c.note("%s", text(c.exactly(5))); c.close() }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nhello")
			s.gone()
		}),
		x("ends/server closes before the answer", func(c *side) { asks(c); c.end() }, func(s *side) { s.request(); s.close() }),
		x("ends/server resets before the answer", func(c *side) { asks(c); c.gone() }, func(s *side) { s.request(); s.reset() }),
		x("ends/server closes in the middle of the head", func(c *side) { asks(c); c.rest() }, func(s *side) { s.request(); s.sends("HTTP/1.1 200 OK\r\nContent-"); s.close() }),
		x("ends/server closes in the middle of the body", func(c *side) { asks(c); c.head(); c.rest() }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
			s.close()
		}),
		x("ends/server closes in the middle of the chunks", func(c *side) { asks(c); c.head(); c.rest() }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
			s.close()
		}),
		x("ends/server closes after the answer", func(c *side) { asks(c); c.response("GET"); c.end() }, func(s *side) { s.request(); s.sends(ok); s.close() }),
		x("ends/server closes after an answer that says so", func(c *side) { asks(c); c.response("GET"); c.end() }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			s.close()
		}),
		x("ends/client asks for the end", func(c *side) { c.sends(asking("GET / HTTP/1.1", "Connection: close")); c.response("GET"); c.end() }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
			s.close()
		}),
		x("streaming/events one by one", func(c *side) {
			asks(c)
			c.head()
			for i := range 3 {
				c.note("event %s", text(c.chunk()))
				c.tell(fmt.Sprint(i))
			}
		}, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
			for i := range 3 {
				s.sends("9\r\ndata: a\n\n\r\n")
				s.await(fmt.Sprint(i))
			}
		}),
		x("streaming/head before the body", func(c *side) { asks(c); c.head(); c.tell("head"); c.note("%s", text(c.exactly(5))) }, func(s *side) {
			s.request()
			s.sends("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")
			s.await("head")
			s.sends("hello")
		}),
		x("streaming/request chunk by chunk, each echoed", func(c *side) {
			c.sends(asking("POST / HTTP/1.1", "Transfer-Encoding: chunked"))
			c.head()
			for range 3 {
				c.sends("4\r\nping\r\n")
				c.note("echo %s", text(c.chunk()))
			}
			c.sends("0\r\n\r\n")
			c.note("end %s", text(c.chunk()))
		}, func(s *side) {
			s.requestHead()
			s.sends("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			for range 3 {
				s.note("part %s", text(s.chunk()))
				s.sends("4\r\npong\r\n")
			}
			s.note("end %s", text(s.chunk()))
			s.sends("0\r\n\r\n")
		}),
		x("early answers/to a body under way, refused", func(c *side) {
			c.sends(asking("POST / HTTP/1.1", "Content-Length: 10") + "hello")
			c.response("POST")
			c.try([]byte("world"))
		}, func(s *side) {
			s.requestHead()
			s.exactly(5)
			s.sends("HTTP/1.1 413 Content Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno")
		}),
		x("early answers/to a body under way, read on", func(c *side) {
			c.sends(asking("POST / HTTP/1.1", "Content-Length: 10") + "hello")
			c.response("POST")
			c.sends("world")
			c.await("all")
		}, func(s *side) {
			s.requestHead()
			s.exactly(5)
			s.sends(ok)
			s.note("the rest is %s", text(s.exactly(5)))
			s.tell("all")
		}),
		x("pipelining/three requests at once", func(c *side) {
			c.sends(asking("GET /1 HTTP/1.1") + asking("GET /2 HTTP/1.1") + asking("GET /3 HTTP/1.1"))
			for range 3 {
				c.response("GET")
			}
		}, func(s *side) {
			for range 3 {
				s.request()
				s.sends(ok)
			}
		}),
		x("pipelining/with bodies", func(c *side) {
			c.sends(asking("POST /1 HTTP/1.1", "Content-Length: 2") + "ab" + asking("POST /2 HTTP/1.1", "Transfer-Encoding: chunked") + "2\r\ncd\r\n0\r\n\r\n" + asking("GET /3 HTTP/1.1"))
			for range 3 {
				c.response("POST")
			}
		}, func(s *side) {
			for range 3 {
				s.request()
				s.sends(ok)
			}
		}),
		x("pipelining/ten in a row on one connection", func(c *side) {
			for range 10 {
				asks(c)
				c.response("GET")
			}
		}, func(s *side) {
			for range 10 {
				s.request()
				s.sends(ok)
			}
		}),
	}
	out = append(out, informational()...)
	out = append(out, upgrades()...)
	for _, size := range []int{1 << 10, 100 << 10, 1 << 20, 30 << 20} {
		big := pattern(size)
		put := x(fmt.Sprintf("size of a request/%d bytes", size), func(c *side) {
			go c.try(with(http(fmt.Sprintf("PUT / HTTP/1.1\r\nHost: example.test\r\nContent-Length: %d", size), "", ""), big))
			c.response("PUT")
		}, func(s *side) { s.request(); s.sends(ok) })
		take := x(fmt.Sprintf("size of an answer/%d bytes", size), func(c *side) { asks(c); c.response("GET") }, func(s *side) {
			s.request()
			s.send(with(http(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d", size), "", ""), big))
		})
		put.weight, take.weight = weightOf(size), weightOf(size)
		out = append(out, put, take)
	}
	return out
}

// chunk reads one.
func (s *side) chunk() []byte {
	size := s.line()
	var n int
	if _, err := fmt.Sscanf(size, "%x", &n); err != nil {
		s.fail("chunk size %q", size)
	}
	b := s.exactly(n)
	s.line()
	return b
}

func informational() []exchange {
	var out []exchange
	for _, c := range []struct{ name, answers string }{
		{"100", "HTTP/1.1 100 Continue\r\n\r\n"}, {"102", "HTTP/1.1 102 Processing\r\n\r\n"}, {"103", "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"},
		{"100 and 103", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"}, {"103 twice", strings.Repeat("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", 2)},
	} {
		out = append(out, answered("informational answers/"+c.name, asking("GET / HTTP/1.1"), c.answers+ok))
	}
	expect := func(name, answer string, goesOn bool) exchange {
		return exchange{
			name: "http1/expectation/" + name, protocols: httpPorts,
			client: func(c *side) {
				c.sends(asking("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5"))
				if goesOn {
					m, _ := c.head()
					c.noteMessage(m, "response", m.headers)
					c.sends("hello")
				}
				c.response("POST")
			},
			server: func(s *side) {
				m := s.requestHead()
				if goesOn {
					s.sends("HTTP/1.1 100 Continue\r\n\r\n")
					s.body(m, true)
				}
				s.notes(m, "request")
				s.sends(answer)
			},
		}
	}
	unmet := answered("expectation/sent with the body", asking("POST / HTTP/1.1", "Expect: 100-continue", "Content-Length: 5")+"hello", ok)
	return append(out, expect("met", ok, true), expect("refused with 417", "HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false),
		expect("answered with 200 at once", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", false), unmet)
}

// upgrades are requests that want another protocol.
func upgrades() []exchange {
	switching := func(protocol string) string {
		return "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n"
	}
	x := func(name, protocol string, client, server func(*side)) exchange {
		return exchange{
			name: "http1/upgrade/" + name, protocols: httpPorts,
			client: func(c *side) {
				c.sends(asking("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: "+protocol))
				c.response("GET")
				client(c)
			},
			server: func(s *side) {
				s.request()
				s.sends(switching(protocol))
				server(s)
			},
		}
	}
	echo, echoed := func(c *side) { c.sends("ping"); c.receive(4); c.send(pattern(5000)); c.receive(5000) }, func(s *side) { s.send(s.receive(4)); s.send(s.receive(5000)) }
	var out []exchange
	for _, protocol := range []string{"websocket", "WebSocket", "tcp", "spdy/3.1", "SPDY/3.1", "kmip", "mine/1", "IRC/6.9", "raw"} {
		out = append(out, x("to "+protocol, protocol, echo, echoed))
	}
	out = append(out,
		x("server closes", "websocket", func(c *side) { c.rest() }, func(s *side) { s.sends("bye"); s.close() }),
		x("client closes", "websocket", func(c *side) { c.sends("bye"); c.await("read"); c.close() }, func(s *side) { s.receive(3); s.tell("read"); s.end() }),
		x("client half-closes", "websocket", func(c *side) { c.sends("end"); c.halfClose(); c.rest() }, func(s *side) { s.rest(); s.sends("bye"); s.close() }),
		x("server half-closes", "websocket", func(c *side) { c.rest(); c.try([]byte("more")); c.close() }, func(s *side) { s.sends("bye"); s.halfClose(); s.rest() }),
		x("server speaks at once", "websocket", func(c *side) { c.receive(7) }, func(s *side) { s.sends("welcome") }),
		exchange{
			name: "http1/upgrade/a POST with bytes behind", protocols: httpPorts,
			client: func(c *side) {
				c.sends("POST /exec HTTP/1.1\r\nHost: example.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
				c.response("POST")
				c.sends("ping")
				c.receive(4)
			},
			server: func(s *side) {
				s.request()
				s.sends("HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
				s.send(s.receive(4))
			},
		})
	for _, protocol := range []string{"websocket", "TLS/1.2", "mine/1", "HTTP/2.0", "h2c"} {
		request := asking("GET / HTTP/1.1", "Connection: Upgrade", "Upgrade: "+protocol)
		if protocol == "h2c" {
			request = asking("GET / HTTP/1.1", "Connection: Upgrade, HTTP2-Settings", "Upgrade: h2c", "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA")
		}
		out = append(out, answered("upgrade ignored/"+protocol+" with 200", request, ok),
			answered("upgrade ignored/"+protocol+" with 404", request, "HTTP/1.1 404 Not Found\r\nContent-Length: 2\r\n\r\nno"))
	}
	return out
}
