package transparency

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
)

// message is an HTTP/1 message as it came over the wire.
type message struct {
	start   string
	headers []string // lines
	body    []byte
	trailer []string
	// chunks are the lines before each chunk.
	chunks []string
}

func (m *message) values(name string) []string {
	var out []string
	for _, line := range m.headers {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.EqualFold(key, name) {
			out = append(out, strings.TrimSpace(value))
		}
	}
	return out
}

// line reads one, without its end.
func (s *side) line() string {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	b, err := s.in.ReadBytes('\n')
	if err != nil {
		s.fail("%s in the middle of a line, then %s", text(b), ended(err))
	}
	return strings.TrimRight(string(b), "\r\n")
}

// head reads start line and headers; ok is false where the connection ends before.
func (s *side) head() (m *message, ok bool) {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	if _, err := s.in.Peek(1); err != nil {
		s.note(trouble+"no message, but %s", ended(err))
		return nil, false
	}
	m = &message{start: s.line()}
	m.headers = s.lines()
	return m, true
}

// lines are those up to an empty one.
func (s *side) lines() []string {
	var out []string
	for {
		line := s.line()
		if line == "" {
			return out
		}
		out = append(out, line)
	}
}

func (s *side) body(m *message, hasBody bool) {
	switch {
	case !hasBody:
	case slices.ContainsFunc(m.values("transfer-encoding"), func(v string) bool { return strings.Contains(v, "chunked") }):
		s.chunked(m)
	case len(m.values("content-length")) > 0:
		n, err := strconv.Atoi(m.values("content-length")[0])
		if err != nil {
			s.fail("content-length %q", m.values("content-length")[0])
		}
		m.body = s.exactly(n)
	case strings.HasPrefix(m.start, "HTTP/"):
		_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
		b, err := io.ReadAll(s.in)
		if err != nil {
			s.fail("body of %s, then %s", text(b), ended(err))
		}
		m.body = b
	}
}

func (s *side) exactly(n int) []byte {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	b := make([]byte, n)
	if got, err := io.ReadFull(s.in, b); err != nil {
		s.fail("%s of a body of %d, then %s", text(b[:got]), n, ended(err))
	}
	return b
}

func (s *side) chunked(m *message) {
	for {
		size := s.line()
		m.chunks = append(m.chunks, size)
		digits, _, _ := strings.Cut(size, ";")
		n, err := strconv.ParseInt(strings.TrimSpace(digits), 16, 64)
		if err != nil {
			s.fail("chunk size %q after a body of %s", size, text(m.body))
		}
		if n == 0 {
			m.trailer = s.lines()
			return
		}
		m.body = append(m.body, s.exactly(int(n))...)
		s.line()
	}
}

// request receives one and notes it; it ends the script where none comes.
func (s *side) request() {
	m := s.requestHead()
	s.body(m, true)
	s.notes(m, "request")
}

// requestHead is request up to the body.
func (s *side) requestHead() *message {
	m, ok := s.head()
	if !ok {
		panic(stop{})
	}
	return m
}

// response receives the answer to a request, after the informational ones, and notes it.
func (s *side) response(method string) *message {
	for {
		m, ok := s.head()
		if !ok {
			panic(stop{})
		}
		status := ""
		if fields := strings.Fields(m.start); len(fields) > 1 {
			status = fields[1]
		}
		informational := strings.HasPrefix(status, "1") && status != "101"
		s.body(m, !informational && method != "HEAD" && method != "CONNECT" && status != "204" && status != "304" && status != "101")
		s.notes(m, "response")
		if !informational {
			return m
		}
	}
}

// ownHeaders are lines that every exchange would show, and one shows: see differences.
var ownHeaders = map[string]func(line string) bool{
	"request":  func(line string) bool { return strings.EqualFold(line, "x-forwarded-proto: http") },
	"response": func(line string) bool { return strings.HasPrefix(strings.ToLower(line), "date: ") },
}

// notes what a message means: of headers with different names the order has no meaning, nor have the sizes of chunks.
func (s *side) notes(m *message, kind string) {
	lines := slices.DeleteFunc(slices.Clone(m.headers), ownHeaders[kind])
	for i, line := range lines { // space around a value is not part of it: RFC 9110, 5.5
		if name, value, ok := strings.Cut(line, ":"); ok {
			lines[i] = strings.TrimRight(name+": "+strings.Trim(value, " \t"), " ")
		}
	}
	slices.SortStableFunc(lines, func(a, b string) int { return strings.Compare(lowerName(a), lowerName(b)) })
	s.noteMessage(m, kind, lines)
}

func lowerName(line string) string {
	name, _, _ := strings.Cut(line, ":")
	return strings.ToLower(name)
}

func (s *side) noteMessage(m *message, kind string, lines []string) {
	var b strings.Builder
	fmt.Fprintf(&b, "receives a %s\n", kind)
	for _, line := range append([]string{m.start}, lines...) {
		fmt.Fprintf(&b, "    %s\n", readable(line))
	}
	if len(m.body) > 0 {
		fmt.Fprintf(&b, "    body of %s\n", text(m.body))
	}
	for _, line := range m.trailer {
		fmt.Fprintf(&b, "    trailer %s\n", readable(line))
	}
	s.note("%s", strings.TrimRight(b.String(), "\n"))
}

func readable(line string) string {
	if len(line) > 300 {
		return fmt.Sprintf("%.40q… %s", line, text([]byte(line)))
	}
	return strings.Trim(strconv.Quote(line), `"`)
}

// exact notes a head as it is, with the lines of chunks.
func (s *side) exact(m *message, kind string) {
	s.noteMessage(m, kind, m.headers)
	for _, c := range m.chunks {
		s.note("chunk %q", c)
	}
}

// http writes a message with line ends as they are on the wire.
func http(lines ...string) []byte {
	return []byte(strings.Join(lines, "\r\n"))
}

// with appends a body.
func with(head, body []byte) []byte { return bytes.Join([][]byte{head, body}, nil) }

// peeks tells whether this byte comes next.
func (s *side) peeks(b byte) bool {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	next, err := s.in.Peek(1)
	return err == nil && next[0] == b
}
