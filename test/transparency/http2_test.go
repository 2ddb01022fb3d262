package transparency

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// window is what this test lets the other end send, of each stream and of the connection.
const window = 64 << 20

// h2 is one end of an HTTP/2 connection, frame by frame. What belongs to the hop, settings, windows and pings, is answered
// and not noted.
type h2 struct {
	*side
	framer *http2.Framer
	encode *hpack.Encoder
	block  bytes.Buffer
	// small is set where each DATA frame is asked for.
	small bool

	writing sync.Mutex
	change  *sync.Cond // guards what follows
	streams map[uint32]*stream
	opened  []*stream // by the other end, in their order
	taken   int
	// credit is what may be sent on the connection; first is a stream's at its beginning.
	credit, first int64
	goAway        string
	pongs         int
	end           string // of the connection
}

// stream is what the other end has sent on one.
type stream struct {
	id     uint32
	heads  [][]string
	body   []byte
	ended  bool
	reset  string
	credit int64
}

func (s *stream) over() bool { return s.ended || s.reset != "" }

// newSmallH2 is newH2 for a client that lets the other end send 64 kB at a time, as gRPC's libraries do at first.
func newSmallH2(s *side) *h2 {
	h := &h2{side: s, small: true}
	h.start(true)
	return h
}

// newH2 begins a connection, with a client's preface or after it.
func newH2(s *side, client bool, settings ...http2.Setting) *h2 {
	h := &h2{side: s}
	h.start(client, settings...)
	return h
}

func (h *h2) start(client bool, settings ...http2.Setting) {
	s := h.side
	h.streams, h.credit, h.first = map[uint32]*stream{}, 65535, 65535
	h.change = sync.NewCond(&sync.Mutex{})
	h.framer = http2.NewFramer(s.conn, s.in)
	h.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	h.framer.MaxHeaderListSize = 16 << 20
	h.framer.SetMaxReadFrameSize(1<<24 - 1)
	h.encode = hpack.NewEncoder(&h.block)
	if client {
		s.sends(http2.ClientPreface)
	} else if got := string(s.exactly(len(http2.ClientPreface))); got != http2.ClientPreface {
		s.fail("preface %q", got)
	}
	if !h.small {
		settings = append(settings, http2.Setting{ID: http2.SettingInitialWindowSize, Val: window})
	}
	h.write(func() error { return h.framer.WriteSettings(settings...) })
	if !h.small {
		h.write(func() error { return h.framer.WriteWindowUpdate(0, window) })
	}
	go h.read()
}

func (h *h2) write(f func() error) {
	h.writing.Lock()
	defer h.writing.Unlock()
	_ = h.conn.SetWriteDeadline(time.Now().Add(h.patience))
	_ = f() // who reads sees the end
}

func (h *h2) read() {
	silence := 2 * h.patience
	if h.vanishing != nil {
		silence += noticed
	}
	for {
		_ = h.conn.SetReadDeadline(time.Now().Add(silence))
		f, err := h.framer.ReadFrame()
		var broken http2.StreamError
		if errors.As(err, &broken) {
			continue
		}
		if err == nil {
			h.reply(f)
		}
		h.change.L.Lock()
		if err != nil {
			h.end = ended(err)
			if errors.Is(err, io.EOF) {
				h.end = "EOF"
			}
		} else {
			h.take(f)
		}
		h.change.Broadcast()
		h.change.L.Unlock()
		if err != nil {
			return
		}
	}
}

// reply answers what wants an answer, and before use is made of it: settings hold for the other end from their answer on.
func (h *h2) reply(f http2.Frame) {
	switch f := f.(type) {
	case *http2.SettingsFrame:
		if !f.IsAck() {
			h.write(h.framer.WriteSettingsAck)
		}
	case *http2.DataFrame:
		if n := f.Length; h.small && n > 0 {
			h.write(func() error {
				return errors.Join(h.framer.WriteWindowUpdate(0, n), h.framer.WriteWindowUpdate(f.StreamID, n))
			})
		}
	case *http2.PingFrame:
		if !f.IsAck() {
			h.write(func() error { return h.framer.WritePing(true, f.Data) })
		}
	}
}

func (h *h2) of(id uint32) *stream {
	if h.streams[id] == nil {
		h.streams[id] = &stream{id: id, credit: h.first}
		h.opened = append(h.opened, h.streams[id])
	}
	return h.streams[id]
}

func (h *h2) take(f http2.Frame) {
	switch f := f.(type) {
	case *http2.MetaHeadersFrame:
		s := h.of(f.StreamID)
		var lines []string
		for _, field := range f.Fields {
			lines = append(lines, field.Name+": "+field.Value)
		}
		s.heads = append(s.heads, lines)
		s.ended = s.ended || f.StreamEnded()
	case *http2.DataFrame:
		s := h.of(f.StreamID)
		s.body = append(s.body, f.Data()...)
		s.ended = s.ended || f.StreamEnded()
	case *http2.RSTStreamFrame:
		h.of(f.StreamID).reset = f.ErrCode.String()
	case *http2.GoAwayFrame:
		h.goAway = f.ErrCode.String()
	case *http2.WindowUpdateFrame:
		if f.StreamID == 0 {
			h.credit += int64(f.Increment)
		} else {
			h.of(f.StreamID).credit += int64(f.Increment)
		}
	case *http2.SettingsFrame:
		if f.IsAck() {
			return
		}
		if v, ok := f.Value(http2.SettingInitialWindowSize); ok {
			for _, s := range h.streams {
				s.credit += int64(v) - h.first
			}
			h.first = int64(v)
		}
	case *http2.PingFrame:
		if f.IsAck() {
			h.pongs++
		}
	}
}

// until waits for a condition on what has come; it ends the script if that does not hold.
func (h *h2) until(what string, holds func() bool) {
	timer := time.AfterFunc(h.patience, h.change.Broadcast)
	defer timer.Stop()
	deadline := time.Now().Add(h.patience)
	h.change.L.Lock()
	defer h.change.L.Unlock()
	for !holds() {
		if h.end != "" || time.Now().After(deadline) {
			h.fail("%s does not come; connection: %s, GOAWAY: %s", what, h.end, h.goAway)
		}
		h.change.Wait()
	}
}

// begin opens a stream.
func (h *h2) begin(id uint32) *stream {
	h.change.L.Lock()
	defer h.change.L.Unlock()
	s := h.of(id)
	h.taken = len(h.opened)
	return s
}

// next is the next stream that the other end opens, when its head is there.
func (h *h2) next() *stream {
	h.until("a stream", func() bool { return len(h.opened) > h.taken && len(h.opened[h.taken].heads) > 0 })
	h.change.L.Lock()
	defer h.change.L.Unlock()
	h.taken++
	return h.opened[h.taken-1]
}

// fields writes a head: pairs "name: value".
func (h *h2) fields(s *stream, ends bool, pairs ...string) {
	h.write(func() error {
		h.block.Reset()
		for _, pair := range pairs {
			name, value, _ := strings.Cut(strings.TrimPrefix(pair, ":"), ": ")
			if strings.HasPrefix(pair, ":") {
				name = ":" + name
			}
			if err := h.encode.WriteField(hpack.HeaderField{Name: name, Value: value}); err != nil {
				return err
			}
		}
		block := bytes.Clone(h.block.Bytes())
		first := block[:min(len(block), 16000)]
		err := h.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: s.id, BlockFragment: first, EndStream: ends, EndHeaders: len(first) == len(block)})
		for rest := block[len(first):]; err == nil && len(rest) > 0; {
			part := rest[:min(len(rest), 16000)]
			rest = rest[len(part):]
			err = h.framer.WriteContinuation(s.id, len(rest) == 0, part)
		}
		return err
	})
}

// data sends bytes within the windows, in frames of 16 kB at the most.
func (h *h2) data(s *stream, ends bool, b []byte) {
	for {
		part := b[:min(len(b), 16<<10)]
		h.until("window", func() bool {
			return s.over() && s.reset != "" || h.credit >= int64(len(part)) && s.credit >= int64(len(part))
		})
		h.change.L.Lock()
		h.credit -= int64(len(part))
		s.credit -= int64(len(part))
		h.change.L.Unlock()
		b = b[len(part):]
		h.write(func() error { return h.framer.WriteData(s.id, ends && len(b) == 0, part) })
		if len(b) == 0 {
			return
		}
	}
}

// headed waits for the first head of a stream that is no informational one.
func (h *h2) headed(s *stream) {
	h.until("a head", func() bool {
		return s.over() || len(s.heads) > 0 && !strings.HasPrefix(s.heads[len(s.heads)-1][0], ":status: 1")
	})
}

// body waits for so many bytes of a stream.
func (h *h2) bodyOf(s *stream, n int) {
	h.until(fmt.Sprintf("a body of %d bytes", n), func() bool { return s.over() || len(s.body) >= n })
}

// whole waits until the other end's half of a stream is over, and notes it.
func (h *h2) whole(s *stream, kind string) {
	h.change.L.Lock()
	deadline := time.Now().Add(h.patience)
	timer := time.AfterFunc(h.patience, h.change.Broadcast)
	defer timer.Stop()
	for !s.over() && h.end == "" && time.Now().Before(deadline) {
		h.change.Wait()
	}
	over, end := s.over(), h.end
	h.change.L.Unlock()
	h.noteStream(s, kind)
	if !over {
		h.fail("the stream does not end; connection: %s, GOAWAY: %s", end, h.goAway)
	}
}

func (h *h2) noteStream(s *stream, kind string) {
	h.change.L.Lock()
	defer h.change.L.Unlock()
	var b strings.Builder
	fmt.Fprintf(&b, "receives a %s\n", kind)
	for i, head := range s.heads {
		lines := slices.DeleteFunc(slices.Clone(head), ownHeaders[kind])
		slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(nameOf(a), nameOf(b)) })
		if i > 0 {
			b.WriteString("    then\n")
		}
		for _, line := range lines {
			fmt.Fprintf(&b, "    %s\n", readable(line))
		}
	}
	fmt.Fprintf(&b, "    body of %s\n", text(s.body))
	if s.ended {
		b.WriteString("    END_STREAM\n")
	}
	if s.reset != "" && (!s.ended || s.reset != "NO_ERROR") {
		fmt.Fprintf(&b, "    RST_STREAM %s\n", s.reset)
	}
	h.note("%s", strings.TrimRight(b.String(), "\n"))
}

// nameOf is the name of a field line, which may begin with a colon.
func nameOf(line string) string {
	i := strings.Index(line[1:], ":")
	return line[:i+1]
}
