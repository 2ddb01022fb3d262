package client

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// greetingLen is the length of the part of the MySQL greeting that the test server sends.
const greetingLen = 12

func callMySQL(c net.Conn) (string, string, error) {
	greeting, err := readGreeting(c)
	if err != nil {
		return "", "", err
	}
	pod, text, err := callEcho(c)
	return pod, greeting + ", " + text, err
}

func readGreeting(c io.Reader) (string, error) {
	greeting := make([]byte, greetingLen)
	if _, err := io.ReadFull(c, greeting); err != nil {
		return "", fmt.Errorf("greeting: %w", err)
	}
	return fmt.Sprintf("greeting %q", greeting[5:11]), nil
}

func callEcho(c net.Conn) (string, string, error) { return sayLine(c, bufio.NewReader(c)) }

func sayLine(out io.Writer, in *bufio.Reader) (pod, text string, err error) {
	if _, err := io.WriteString(out, "select 1\n"); err != nil {
		return "", "", err
	}
	line, err := in.ReadString('\n')
	pod, text, _ = strings.Cut(strings.TrimSpace(line), " ")
	return pod, "echo " + text, err
}

// lineCaller says line after line over one connection, one at a time. When the connection is lost, so are all
// calls after it: whoever holds one for long has no other. With reconnect the next call has another one.
type lineCaller struct {
	c         api.Call
	reconnect bool

	mu   sync.Mutex
	conn net.Conn
	in   *bufio.Reader
	err  error // of the connection
}

func (l *lineCaller) call(ctx context.Context) api.Answer {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.reconnect && (l.err != nil || l.ended()) {
		if l.conn != nil {
			l.conn.Close()
		}
		l.conn, l.err = nil, nil
	}
	if l.conn == nil && l.err == nil {
		l.err = l.connect(ctx)
	}
	var pod, text string
	if l.err == nil {
		deadline, _ := ctx.Deadline()
		_ = l.conn.SetDeadline(deadline) // a closed connection says so in sayLine
		pod, text, l.err = sayLine(l.conn, l.in)
	}
	if l.err != nil {
		return failed(l.err)
	}
	return api.Answer{OK: true, Pod: pod, Text: text}
}

// ended reports whether the other side has ended the connection, for which it looks for a moment.
func (l *lineCaller) ended() bool {
	if l.conn == nil {
		return false
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(time.Millisecond)) // a closed connection says so in Peek
	_, err := l.in.Peek(1)
	return !errors.Is(err, os.ErrDeadlineExceeded)
}

func (l *lineCaller) connect(ctx context.Context) (err error) {
	if l.conn, err = new(net.Dialer).DialContext(ctx, "tcp", l.c.Target); err != nil {
		return err
	}
	l.in = bufio.NewReader(l.conn)
	if l.c.Kind == api.MySQL {
		deadline, _ := ctx.Deadline()
		_ = l.conn.SetDeadline(deadline)
		_, err = readGreeting(l.in)
	}
	return err
}

func (l *lineCaller) close() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		l.conn.Close()
	}
}
