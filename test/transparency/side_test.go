package transparency

import (
	"bufio"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"time"
)

// patience is how long something is waited for that has to come, and less of it where it is known not to.
const patience, littlePatience = 8 * time.Second, 1500 * time.Millisecond

// quiet is how long nothing must come where nothing may.
const quiet = 300 * time.Millisecond

// side is one end of a connection as a script has it: what it does to it, and what it sees of it.
type side struct {
	*exchangeRun
	conn *net.TCPConn
	in   *bufio.Reader

	mu  sync.Mutex
	log []string
}

// stop ends a script early.
type stop struct{}

// trouble marks what must not be seen where there is no sidecar.
const trouble = "✗ "

func newSide(r *exchangeRun, conn *net.TCPConn) *side {
	return &side{exchangeRun: r, conn: conn, in: bufio.NewReaderSize(conn, 64<<10)}
}

// note adds to what this side sees.
func (s *side) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.log = append(s.log, fmt.Sprintf(format, args...))
}

// fail notes what was not expected, and ends the script.
func (s *side) fail(format string, args ...any) {
	s.note(trouble+format, args...)
	panic(stop{})
}

func (s *side) seen() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.log...)
}

// play runs a script.
func (s *side) play(script func(*side)) {
	defer func() {
		if r := recover(); r != nil && r != any(stop{}) {
			panic(r)
		}
	}()
	script(s)
}

// ended puts the end of a connection into a class.
func ended(err error) string {
	var timeout net.Error
	switch {
	case err == nil:
		return "open"
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "EOF"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return "reset"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ETIMEDOUT), errors.Is(err, syscall.EHOSTUNREACH):
		return "peer lost"
	case errors.As(err, &timeout) && timeout.Timeout():
		return "open"
	case errors.Is(err, net.ErrClosed):
		return "closed by this side"
	}
	return err.Error()
}

// text is bytes as one can read them, long ones by their digest.
func text(b []byte) string {
	if len(b) <= 160 {
		return fmt.Sprintf("%d bytes %q", len(b), b)
	}
	return fmt.Sprintf("%d bytes sha256:%.12x", len(b), sha256.Sum256(b))
}

// pattern gives so many bytes that do not look like HTTP from the first one on.
func pattern(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i*7 + i>>8)
	}
	return b
}

// send writes, and ends the script if that fails.
func (s *side) send(b []byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.patience))
	if _, err := s.conn.Write(b); err != nil {
		s.fail("sending fails: %s", ended(err))
	}
}

func (s *side) sends(text string) { s.send([]byte(text)) }

// try writes; the connection may be gone.
func (s *side) try(b []byte) {
	_ = s.conn.SetWriteDeadline(time.Now().Add(s.patience))
	_, _ = s.conn.Write(b)
}

// receive waits for so many bytes.
func (s *side) receive(n int) []byte {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	b := make([]byte, n)
	got, err := io.ReadFull(s.in, b)
	if err != nil {
		s.fail("%s of %d expected, then %s", text(b[:got]), n, ended(err))
	}
	s.note("receives %s", text(b))
	return b
}

// rest receives to the end.
func (s *side) rest() []byte {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	b, err := io.ReadAll(s.in)
	end := "EOF"
	if err != nil {
		end = ended(err)
	}
	if end == "open" {
		s.fail("%s, and no end", text(b))
	}
	s.note("receives %s, then %s", text(b), end)
	return b
}

// end waits for the end, before which nothing may come.
func (s *side) end() {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	b, err := io.ReadAll(s.in)
	end := "EOF"
	if err != nil {
		end = ended(err)
	}
	switch {
	case end == "open":
		s.fail("%s, and no end", text(b))
	case len(b) > 0:
		s.note("receives %s, then %s", text(b), end)
	default:
		s.note("sees %s", end)
	}
}

// gone waits for an end of either kind: which one is a matter of moments.
func (s *side) gone() {
	_ = s.conn.SetReadDeadline(time.Now().Add(s.patience))
	_, err := io.Copy(io.Discard, s.in)
	if ended(err) == "open" && err != nil {
		s.fail("no end")
	}
	s.note("sees an end")
}

// silent notes what comes within a moment where nothing should.
func (s *side) silent() {
	_ = s.conn.SetReadDeadline(time.Now().Add(quiet))
	b, err := s.in.Peek(1)
	switch {
	case len(b) > 0:
		s.note("receives more: %q", b)
	case ended(err) == "open":
		s.note("sees nothing more")
	default:
		s.note("sees %s", ended(err))
	}
}

func (s *side) halfClose() {
	if err := s.conn.CloseWrite(); err != nil {
		s.fail("half-closing fails: %s", ended(err))
	}
}

func (s *side) close() { _ = s.conn.Close() }

// reset closes with RST.
func (s *side) reset() {
	_ = s.conn.SetLinger(0)
	_ = s.conn.Close()
}

// caller notes the class of the peer's address.
func (s *side) caller(own netip.Addr) {
	peer := s.conn.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	class := "another's address: " + peer.String()
	switch {
	case peer == podAddresses["client"], peer == podAddresses["outsider"]:
		class = "the caller's address"
	case peer == own:
		class = "the server's own address"
	case peer.IsLoopback():
		class = "loopback"
	case peer.String() == nodeAddress:
		class = "the node's address"
	}
	s.note("is called from %s", class)
}
