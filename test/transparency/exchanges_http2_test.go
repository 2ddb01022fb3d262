package transparency

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/net/http2"
)

var http2Ports = []protocol{declaredHTTP, declaredGRPC, undeclared}

// get2 are the pseudo-headers of a request; others follow.
func get2(method, path string, more ...string) []string {
	return append([]string{":method: " + method, ":scheme: http", ":authority: example.test", ":path: " + path}, more...)
}

// over2 makes scripts for HTTP/2 of those for a connection.
func over2(name string, client, server func(*h2)) exchange {
	return exchange{
		name: "http2/" + name, protocols: http2Ports,
		client: func(c *side) { client(newH2(c, true)) },
		server: func(s *side) { server(newH2(s, false)) },
	}
}

// asks2 is a client with one request without a body.
func asks2(fields ...string) func(*h2) {
	return func(h *h2) {
		s := h.begin(1)
		h.fields(s, true, fields...)
		h.whole(s, "response")
	}
}

// serves2 is a server that takes one request and answers it.
func serves2(answer func(*h2, *stream)) func(*h2) {
	return func(h *h2) {
		s := h.next()
		h.whole(s, "request")
		answer(h, s)
	}
}

func ok2(h *h2, s *stream) {
	h.fields(s, false, ":status: 200", "content-length: 2")
	h.data(s, true, []byte("ok"))
}

func http2Exchanges() []exchange {
	var out []exchange
	add := func(x exchange) { out = append(out, x) }
	for _, method := range []string{"GET", "HEAD", "OPTIONS", "DELETE", "PROPFIND", "LIST", "QUERY", "BAN", "M-SEARCH", "get"} {
		add(over2("method/"+method, asks2(get2(method, "/a")...), serves2(func(h *h2, s *stream) {
			h.fields(s, true, ":status: 200", "x-a: b")
		})))
	}
	for name, path := range map[string]string{"query": "/a?b=c", "two slashes": "/a//b", "dots": "/a/../b", "encoded": "/a%2Fb", "16 kB": "/" + strings.Repeat("a", 16<<10), "asterisk": "*"} {
		method := map[bool]string{true: "OPTIONS", false: "GET"}[path == "*"]
		add(over2("target/"+name, asks2(get2(method, path)...), serves2(ok2)))
	}
	for name, fields := range map[string][]string{
		"empty value": {"x-a: "}, "doubled": {"x-a: 1", "x-b: 2", "x-a: 3"}, "te": {"te: trailers"}, "cookies": {"cookie: a=b", "cookie: c=d"}, "8 kB": {"x-a: " + strings.Repeat("a", 8<<10)},
		"40 kB": {"x-a: " + strings.Repeat("a", 40<<10)}, "obs-text": {"x-a: \xe9"}, "90 of them": slices.Repeat([]string{"x-a: b"}, 90), "underscore": {"x_a: b"}, "content-type": {"content-type: text/plain"},
		"accept-encoding": {"accept-encoding: gzip"}, "x-request-id": {"x-request-id: mine"}, "host": {"host: example.test"}, "priority": {"priority: u=1, i"}, "x-forwarded-for": {"x-forwarded-for: 192.0.2.1"},
	} {
		add(over2("header/"+name, asks2(get2("GET", "/", fields...)...), serves2(ok2)))
		add(over2("header of an answer/"+name, asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) { h.fields(s, true, append([]string{":status: 200"}, fields...)...) })))
	}
	for _, size := range []int{66000, 80000} {
		add(over2(fmt.Sprintf("long header/%d bytes", size), asks2(get2("GET", "/", "x-a: "+strings.Repeat("X", size))...), serves2(ok2)))
	}
	for _, status := range []string{"200", "201", "204", "206", "304", "404", "421", "425", "429", "500", "503", "599"} {
		add(over2("status/"+status, asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) { h.fields(s, true, ":status: "+status, "x-a: b") })))
	}
	for name, statuses := range map[string][]string{"100": {"100"}, "103": {"103"}, "103 twice": {"103", "103"}} {
		add(over2("informational answers/"+name, asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) {
			for _, status := range statuses {
				h.fields(s, false, ":status: "+status, "link: </a>")
			}
			ok2(h, s)
		})))
	}
	out = append(out, bodies2()...)
	out = append(out, ends2()...)
	out = append(out, connect2()...)
	slices.SortFunc(out, cmpNames)
	return out
}

// cmpNames puts exchanges of a map in order.
func cmpNames(a, b exchange) int { return strings.Compare(a.name, b.name) }

// bodies2 are bodies and trailers in frames of all kinds.
func bodies2() []exchange {
	var out []exchange
	body := func(name string, send func(*h2, *stream)) {
		out = append(out,
			over2("body of a request/"+name, func(h *h2) {
				s := h.begin(1)
				h.fields(s, false, get2("POST", "/")...)
				send(h, s)
				h.whole(s, "response")
			}, serves2(ok2)),
			over2("body of an answer/"+name, asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) {
				h.fields(s, false, ":status: 200")
				send(h, s)
			})))
	}
	for _, size := range []int{0, 1, 16 << 10, 100 << 10, 1 << 20, 30 << 20} {
		body(fmt.Sprintf("%d bytes", size), func(h *h2, s *stream) { h.data(s, true, pattern(size)) })
		if size > 1<<20 {
			for i := range out[len(out)-2:] {
				out[len(out)-1-i].weight, out[len(out)-1-i].protocols = weightOf(size), []protocol{declaredHTTP, undeclared}
			}
		}
	}
	body("its end in a frame of its own", func(h *h2, s *stream) { h.data(s, false, []byte("hello")); h.data(s, true, nil) })
	body("an empty frame before", func(h *h2, s *stream) { h.data(s, false, nil); h.data(s, true, []byte("hello")) })
	body("two empty frames before", func(h *h2, s *stream) {
		h.data(s, false, nil)
		h.data(s, false, nil)
		h.data(s, true, []byte("hello"))
	})
	body("padding", func(h *h2, s *stream) {
		h.write(func() error { return h.framer.WriteDataPadded(s.id, false, []byte("hello"), make([]byte, 200)) })
		h.write(func() error { return h.framer.WriteDataPadded(s.id, true, []byte(" world"), make([]byte, 1)) })
	})
	body("trailers", func(h *h2, s *stream) { h.data(s, false, []byte("hello")); h.fields(s, true, "x-t: a") })
	body("trailers alone", func(h *h2, s *stream) { h.fields(s, true, "x-t: a") })
	body("a frame that nobody knows", func(h *h2, s *stream) {
		h.write(func() error { return h.framer.WriteRawFrame(0xbe, 0, s.id, []byte("x")) })
		h.data(s, true, []byte("hello"))
	})
	body("many small frames", func(h *h2, s *stream) {
		for range 100 {
			h.data(s, false, []byte("ping"))
		}
		h.data(s, true, nil)
	})
	return out
}

// ends2 are ends of streams and connections, in each order.
func ends2() []exchange {
	half := func(h *h2) *stream { // of a request
		s := h.begin(1)
		h.fields(s, false, get2("POST", "/")...)
		h.data(s, false, []byte("hello"))
		return s
	}
	taken := func(h *h2) *stream {
		s := h.next()
		h.bodyOf(s, 5)
		return s
	}
	reset := func(h *h2, s *stream, code http2.ErrCode) {
		h.write(func() error { return h.framer.WriteRSTStream(s.id, code) })
	}
	var out []exchange
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeNo, http2.ErrCodeInternal, http2.ErrCodeRefusedStream, http2.ErrCodeEnhanceYourCalm, http2.ErrCodeProtocol} {
		out = append(out,
			over2("resets/client, before the answer, "+code.String(), func(h *h2) { s := half(h); h.await("taken"); reset(h, s, code); h.await("over") }, func(h *h2) {
				s := taken(h)
				h.tell("taken")
				h.whole(s, "request")
				h.tell("over")
			}),
			over2("resets/server, in the middle of the answer, "+code.String(), func(h *h2) { s := half(h); h.bodyOf(s, 3); h.tell("read"); h.whole(s, "response") }, func(h *h2) {
				s := taken(h)
				h.fields(s, false, ":status: 200")
				h.data(s, false, []byte("abc"))
				h.await("read")
				reset(h, s, code)
			}))
		if code != http2.ErrCodeRefusedStream {
			out = append(out, over2("resets/server, before the answer, "+code.String(), func(h *h2) { s := half(h); h.whole(s, "response") }, func(h *h2) { s := taken(h); reset(h, s, code) }))
		}
	}
	early := func(code http2.ErrCode, resets bool) func(*h2) {
		return func(h *h2) {
			s := taken(h)
			ok2(h, s)
			if resets {
				reset(h, s, code)
			}
		}
	}
	out = append(out,
		over2("early answers/whole, then reset with NO_ERROR", func(h *h2) { h.whole(half(h), "response") }, early(http2.ErrCodeNo, true)),
		over2("early answers/whole, and the request goes on", func(h *h2) { s := half(h); h.whole(s, "response"); h.data(s, true, []byte("more")); h.await("over") }, func(h *h2) {
			s := taken(h)
			ok2(h, s)
			h.whole(s, "request")
			h.tell("over")
		}),
		over2("streams/both directions by turns", func(h *h2) {
			s := h.begin(1)
			h.fields(s, false, get2("POST", "/")...)
			for i := range 10 {
				h.data(s, false, []byte("ping"))
				h.bodyOf(s, 4*(i+1))
			}
			h.data(s, true, nil)
			h.whole(s, "response")
		}, func(h *h2) {
			s := h.next()
			h.fields(s, false, ":status: 200")
			for i := range 10 {
				h.bodyOf(s, 4*(i+1))
				h.data(s, false, []byte("pong"))
			}
			h.whole(s, "request")
			h.data(s, true, nil)
		}),
		over2("streams/the head first", func(h *h2) { s := half(h); h.headed(s); h.data(s, true, []byte("more")); h.whole(s, "response") }, func(h *h2) {
			s := taken(h)
			h.fields(s, false, ":status: 200")
			h.whole(s, "request")
			h.data(s, true, []byte("ok"))
		}),
		over2("streams/a hundred at once", func(h *h2) {
			var all []*stream
			for i := range 100 {
				s := h.begin(uint32(2*i + 1))
				h.fields(s, true, get2("GET", "/")...)
				all = append(all, s)
			}
			for _, s := range all {
				h.whole(s, "response")
			}
		}, func(h *h2) {
			var all []*stream
			for range 100 {
				all = append(all, h.next())
			}
			for _, s := range slices.Backward(all) {
				ok2(h, s)
			}
		}),
		over2("connection/pings", func(h *h2) {
			for i := range 3 {
				h.write(func() error { return h.framer.WritePing(false, [8]byte{byte(i)}) })
			}
			h.until("pongs", func() bool { return h.pongs == 3 })
			asks2(get2("GET", "/")...)(h)
		}, serves2(ok2)),
		over2("connection/client says GOAWAY and waits for its answer", func(h *h2) {
			s := h.begin(1)
			h.fields(s, true, get2("GET", "/")...)
			h.await("taken")
			h.write(func() error { return h.framer.WriteGoAway(0, http2.ErrCodeNo, nil) })
			h.whole(s, "response")
		}, func(h *h2) { s := h.next(); h.tell("taken"); h.whole(s, "request"); ok2(h, s) }),
		over2("connection/server says GOAWAY and answers", asks2(get2("GET", "/")...), serves2(func(h *h2, s *stream) {
			h.write(func() error { return h.framer.WriteGoAway(s.id, http2.ErrCodeNo, nil) })
			ok2(h, s)
		})),
		over2("connection/server closes in the middle of the answer", func(h *h2) { s := half(h); h.bodyOf(s, 3); h.tell("read"); h.cut(s) }, func(h *h2) {
			s := taken(h)
			h.fields(s, false, ":status: 200")
			h.data(s, false, []byte("abc"))
			h.await("read")
			h.close()
		}),
		over2("connection/client closes before the answer", func(h *h2) { half(h); h.await("taken"); h.close() }, func(h *h2) {
			s := taken(h)
			h.tell("taken")
			h.cut(s)
		}),
	)
	return out
}

// connect2 are tunnels.
func connect2() []exchange {
	tunnel := func(name string, fields []string, settings ...http2.Setting) exchange {
		x := over2("connect/"+name, func(h *h2) {
			s := h.begin(1)
			h.fields(s, false, fields...)
			h.headed(s)
			h.data(s, false, []byte("ping"))
			h.bodyOf(s, 4)
			h.data(s, true, nil)
			h.whole(s, "response")
		}, nil)
		x.server = func(side *side) {
			h := newH2(side, false, settings...)
			s := h.next()
			h.fields(s, false, ":status: 200")
			h.bodyOf(s, 4)
			h.data(s, false, []byte("pong"))
			h.whole(s, "request")
			h.data(s, true, nil)
		}
		return x
	}
	return []exchange{
		tunnel("plain", []string{":method: CONNECT", ":authority: other.test:443"}),
		tunnel("WebSocket", append([]string{":method: CONNECT", ":protocol: websocket"}, get2("", "/")[1:]...), http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}),
	}
}

// cut waits until a stream is over without its end, whether it is reset or the connection is gone.
func (h *h2) cut(s *stream) {
	h.change.L.Lock()
	defer h.change.L.Unlock()
	for !s.over() && h.end == "" {
		h.change.Wait() // the reader gives up in the end
	}
	switch {
	case s.ended:
		h.note("the stream ends as if it were whole")
	case h.end == "open":
		h.note(trouble + "nothing ends the stream")
	default:
		h.note("the stream is cut after %s", text(s.body))
	}
}
