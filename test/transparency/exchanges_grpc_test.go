package transparency

import (
	"encoding/binary"
	"fmt"
	"slices"

	"golang.org/x/net/http2"
)

var grpcPorts = []protocol{declaredGRPC, undeclared}

// frame is a gRPC message on the wire.
func frame(b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{0}, uint32(len(b))), b...)
}

// call begins a gRPC call.
func (h *h2) call(more ...string) *stream {
	s := h.begin(1)
	h.fields(s, false, append(get2("POST", "/shop.Cart/Add"), append([]string{"te: trailers", "content-type: application/grpc", "user-agent: grpc-go/1.80.0"}, more...)...)...)
	return s
}

func (h *h2) answers(s *stream) { h.fields(s, false, ":status: 200", "content-type: application/grpc") }

func (h *h2) status(s *stream, code int, more ...string) {
	h.fields(s, true, append([]string{fmt.Sprintf("grpc-status: %d", code), "grpc-message: said"}, more...)...)
}

func grpcExchanges() []exchange {
	var out []exchange
	x := func(name string, client, server func(*h2)) *exchange {
		out = append(out, exchange{
			name: "grpc/" + name, protocols: grpcPorts,
			client: func(c *side) { client(newSmallH2(c)) },
			server: func(s *side) { server(newH2(s, false)) },
		})
		return &out[len(out)-1]
	}
	unary := func(h *h2, size int) {
		s := h.call()
		h.data(s, true, frame(pattern(size)))
		h.whole(s, "response")
	}
	for _, size := range []int{0, 1, 1 << 10, 100 << 10, 4 << 20} {
		x(fmt.Sprintf("unary/%d bytes", size), func(h *h2) { unary(h, size) }, serves2(func(h *h2, s *stream) {
			h.answers(s)
			h.data(s, false, frame(pattern(size)))
			h.status(s, 0)
		})).weight = weightOf(size)
	}
	x("unary/the end of the request in a frame of its own", func(h *h2) {
		s := h.call()
		h.data(s, false, frame([]byte("hello")))
		h.data(s, true, nil)
		h.whole(s, "response")
	}, serves2(func(h *h2, s *stream) { h.answers(s); h.data(s, false, frame([]byte("hi"))); h.status(s, 0) }))
	for code := range 17 {
		x(fmt.Sprintf("status/%d alone", code), func(h *h2) { unary(h, 10) }, serves2(func(h *h2, s *stream) {
			h.fields(s, true, ":status: 200", "content-type: application/grpc", fmt.Sprintf("grpc-status: %d", code), "grpc-message: said%20so", "grpc-status-details-bin: CAESAWE")
		}))
		x(fmt.Sprintf("status/%d after messages", code), func(h *h2) { unary(h, 10) }, serves2(func(h *h2, s *stream) {
			h.answers(s)
			h.data(s, false, frame([]byte("hi")))
			h.status(s, code, "x-own: a", "x-own-bin: AAECAw")
		}))
	}
	for name, fields := range map[string][]string{
		"timeout": {"grpc-timeout: 5S"}, "encoding": {"grpc-encoding: gzip", "grpc-accept-encoding: gzip,identity"}, "binary": {"x-bin: AAECAw"}, "doubled": {"x-a: 1", "x-a: 2"}, "previous attempts": {"grpc-previous-rpc-attempts: 1"}, "trace": {"grpc-trace-bin: AAA"},
	} {
		x("metadata/"+name, func(h *h2) {
			s := h.call(fields...)
			h.data(s, true, frame([]byte("hello")))
			h.whole(s, "response")
		}, serves2(func(h *h2, s *stream) { h.answers(s); h.status(s, 0) }))
	}
	for _, m := range []struct{ number, size int }{{3, 10}, {1, 100 << 10}, {100, 64 << 10}, {1, 1 << 20}} {
		sends := func(h *h2, s *stream) {
			h.answers(s)
			for range m.number {
				h.data(s, false, frame(pattern(m.size)))
			}
			h.status(s, 5)
		}
		name := fmt.Sprintf("%d messages of %d bytes", m.number, m.size)
		x("server stream/"+name, func(h *h2) { unary(h, 10) }, serves2(sends)).weight = weightOf(m.number * m.size)
		for _, resets := range []bool{false, true} {
			early := x(fmt.Sprintf("the server ends first/%s%s", name, map[bool]string{true: ", then NO_ERROR"}[resets]), func(h *h2) {
				s := h.call()
				h.data(s, false, frame([]byte("hello")))
				h.whole(s, "response")
			}, func(h *h2) {
				s := h.next()
				h.bodyOf(s, 10)
				sends(h, s)
				if resets {
					h.write(func() error { return h.framer.WriteRSTStream(s.id, http2.ErrCodeNo) })
				}
			})
			early.times, early.weight = 5, weightOf(m.number*m.size)
		}
	}
	x("the server ends first/status alone", func(h *h2) {
		s := h.call()
		h.data(s, false, frame([]byte("hello")))
		h.whole(s, "response")
	}, func(h *h2) {
		s := h.next()
		h.bodyOf(s, 10)
		h.fields(s, true, ":status: 200", "content-type: application/grpc", "grpc-status: 7", "grpc-message: no")
	})
	x("chat/ten rounds", func(h *h2) {
		s := h.call()
		for i := range 10 {
			h.data(s, false, frame([]byte("hello")))
			h.bodyOf(s, 7*(i+1))
		}
		h.data(s, true, nil)
		h.whole(s, "response")
	}, func(h *h2) {
		s := h.next()
		h.answers(s)
		for i := range 10 {
			h.bodyOf(s, 10*(i+1))
			h.data(s, false, frame([]byte("hi")))
		}
		h.whole(s, "request")
		h.status(s, 0)
	})
	x("client stream/a hundred messages", func(h *h2) {
		s := h.call()
		for range 100 {
			h.data(s, false, frame([]byte("hello")))
		}
		h.data(s, true, nil)
		h.whole(s, "response")
	}, serves2(func(h *h2, s *stream) { h.answers(s); h.data(s, false, frame([]byte("hi"))); h.status(s, 0) }))
	x("ends/client cancels a stream", func(h *h2) {
		s := h.call()
		h.data(s, true, frame([]byte("hello")))
		h.bodyOf(s, 7)
		h.write(func() error { return h.framer.WriteRSTStream(s.id, http2.ErrCodeCancel) })
		h.await("over")
	}, func(h *h2) {
		s := h.next()
		h.answers(s)
		h.data(s, false, frame([]byte("hi")))
		h.until("a reset", func() bool { return s.reset != "" })
		h.note("the stream is reset with %s", s.reset)
		h.tell("over")
	})
	for _, code := range []http2.ErrCode{http2.ErrCodeCancel, http2.ErrCodeInternal, http2.ErrCodeNo} {
		x("ends/server resets with "+code.String(), func(h *h2) {
			s := h.call()
			h.data(s, true, frame([]byte("hello")))
			h.bodyOf(s, 7)
			h.tell("read")
			h.whole(s, "response")
		}, func(h *h2) {
			s := h.next()
			h.answers(s)
			h.data(s, false, frame([]byte("hi")))
			h.await("read")
			h.write(func() error { return h.framer.WriteRSTStream(s.id, code) })
		})
	}
	x("ends/the server dies", func(h *h2) {
		s := h.call()
		h.data(s, true, frame([]byte("hello")))
		h.bodyOf(s, 7)
		h.tell("read")
		h.lost(s)
	}, func(h *h2) {
		s := h.next()
		h.answers(s)
		h.data(s, false, frame([]byte("hi")))
		h.await("read")
		h.close()
	})
	slices.SortFunc(out, cmpNames)
	return out
}

// lost waits until the server of a stream is known to be gone, and notes what a gRPC client makes of that.
func (h *h2) lost(s *stream) {
	h.change.L.Lock()
	defer h.change.L.Unlock()
	for !s.over() && h.end == "" {
		h.change.Wait()
	}
	// https://github.com/grpc/grpc/blob/master/doc/statuscodes.md and PROTOCOL-HTTP2.md, "Errors"
	status := map[string]string{"": "UNAVAILABLE", "NO_ERROR": "INTERNAL", "REFUSED_STREAM": "UNAVAILABLE", "CANCEL": "CANCELLED", "ENHANCE_YOUR_CALM": "RESOURCE_EXHAUSTED"}[s.reset]
	switch {
	case s.ended:
		status = fmt.Sprint("what came with the end: ", s.heads[len(s.heads)-1])
		if slices.Contains(s.heads[len(s.heads)-1], "grpc-status: 14") {
			status = "UNAVAILABLE"
		}
	case status == "":
		status = "INTERNAL"
	}
	h.note("a client takes it for %s", status)
}
