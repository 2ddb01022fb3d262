// Package client is the calling side of the test application: single calls of every kind and loads.
// Nothing here retries, so that what the network or a mesh does wrong is seen.
package client

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/net/websocket"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// DefaultTimeout of a call.
const DefaultTimeout = 5 * time.Second

// Do makes one call over a connection of its own.
func Do(ctx context.Context, c api.Call) api.Answer {
	if c.Timeout == 0 {
		c.Timeout = DefaultTimeout
	}
	ctx, cancel := context.WithTimeout(ctx, c.Timeout)
	defer cancel()
	start := time.Now()
	a := checked(c, do(ctx, c))
	a.Elapsed = time.Since(start)
	return a
}

func do(ctx context.Context, c api.Call) api.Answer {
	switch c.Kind {
	case api.HTTP, api.HTTP2, api.HTTPStream, api.APIServer:
		caller, err := newHTTPCaller(c, true)
		if err != nil {
			return failed(err)
		}
		return caller.call(ctx)
	case api.TLS:
		tlsCall := c
		tlsCall.Target = "https://" + c.Target + "/"
		caller, err := newHTTPCaller(tlsCall, true)
		if err != nil {
			return failed(err)
		}
		return caller.call(ctx)
	case api.GRPC, api.GRPCOther, api.GRPCStream, api.GRPCChat, api.WhoAmI:
		caller, err := newGRPCCaller(c)
		if err != nil {
			return failed(err)
		}
		defer caller.close()
		return caller.call(ctx)
	case api.WebSocket:
		return callWebSocket(ctx, c)
	case api.MySQL:
		return withConn(ctx, "tcp", c.Target, callMySQL)
	case api.SMTP:
		return withConn(ctx, "tcp", c.Target, callSMTP)
	case api.Echo:
		return withConn(ctx, "tcp", c.Target, callEcho)
	case api.Connect:
		return withConn(ctx, "tcp", c.Target, callConnect)
	case api.Exchange:
		return exchange(ctx, c)
	case api.GRPCBytes:
		return callGRPCBytes(ctx, c)
	case api.UDP:
		return withConn(ctx, "udp", c.Target, callUDP)
	case api.DNS:
		return lookup(ctx, c.Target)
	default:
		return failed(fmt.Errorf("kind: %q is not known", c.Kind))
	}
}

// isGRPC says whether a kind of call shares a gRPC connection.
func isGRPC(k api.Kind) bool {
	return slices.Contains([]api.Kind{api.GRPC, api.GRPCOther, api.GRPCStream, api.GRPCChat, api.WhoAmI}, k)
}

// checked fails a call whose answer is not the wanted one.
func checked(c api.Call, a api.Answer) api.Answer {
	if a.OK && !strings.Contains(a.Text, c.Want) {
		a.OK, a.Error = false, fmt.Sprintf("answer %q, want %q in it", a.Text, c.Want)
	}
	return a
}

// failed is the answer for an error. Text holds only its class, which is what environments can be
// compared by: whether a proxy sits between decides how an unreachable target shows itself.
func failed(err error) api.Answer {
	return api.Answer{Text: "failed: " + class(err), Error: err.Error()}
}

func class(err error) string {
	var dns *net.DNSError
	var timeout interface{ Timeout() bool }
	switch {
	case errors.As(err, &dns):
		return "no such host"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "closed"
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout():
		return "timeout"
	default:
		return "other"
	}
}

func withConn(ctx context.Context, network, target string, f func(net.Conn) (pod, text string, err error)) api.Answer {
	var d net.Dialer
	c, err := d.DialContext(ctx, network, target)
	if err != nil {
		return failed(err)
	}
	defer c.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = c.SetDeadline(deadline)
	}
	pod, text, err := f(c)
	if err != nil {
		return failed(err)
	}
	return api.Answer{OK: true, Text: text, Pod: pod}
}

func callSMTP(c net.Conn) (string, string, error) {
	in := bufio.NewReader(c)
	greeting, err := in.ReadString('\n')
	if err != nil {
		return "", "", fmt.Errorf("greeting: %w", err)
	}
	if _, err := io.WriteString(c, "EHLO test\r\n"); err != nil {
		return "", "", err
	}
	line, err := in.ReadString('\n')
	if err != nil {
		return "", "", err
	}
	code, pod, _ := strings.Cut(strings.TrimSpace(line), " ")
	return pod, strings.TrimSpace(greeting) + ", then " + code, nil
}

// callConnect succeeds when the connection is still open a moment after it was made. A proxy accepts
// before it knows whether its target does, so connecting alone proves nothing.
func callConnect(c net.Conn) (string, string, error) {
	_ = c.SetReadDeadline(time.Now().Add(time.Second))
	_, err := c.Read(make([]byte, 1))
	var timeout net.Error
	if err == nil || errors.As(err, &timeout) && timeout.Timeout() {
		return "", "connected", nil
	}
	return "", "", err
}

func callUDP(c net.Conn) (string, string, error) {
	if _, err := io.WriteString(c, "ping"); err != nil {
		return "", "", err
	}
	buf := make([]byte, 2048)
	n, err := c.Read(buf)
	if err != nil {
		return "", "", err
	}
	pod, text, _ := strings.Cut(string(buf[:n]), " ")
	return pod, "udp " + text, nil
}

func lookup(ctx context.Context, name string) api.Answer {
	addrs, err := net.DefaultResolver.LookupHost(ctx, name)
	if err != nil {
		return failed(err)
	}
	slices.Sort(addrs)
	return api.Answer{OK: true, Text: strings.Join(addrs, " ")}
}

func callWebSocket(ctx context.Context, c api.Call) api.Answer {
	cfg, err := websocket.NewConfig("ws://"+c.Target+"/ws", "http://"+c.Target)
	if err != nil {
		return failed(err)
	}
	ws, err := cfg.DialContext(ctx)
	if err != nil {
		return failed(err)
	}
	defer ws.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = ws.SetDeadline(deadline)
	}
	for i := range 5 {
		sent := fmt.Sprintf("message %d", i)
		if err := websocket.Message.Send(ws, sent); err != nil {
			return failed(err)
		}
		var got string
		if err := websocket.Message.Receive(ws, &got); err != nil {
			return failed(err)
		}
		if got != sent {
			return failed(fmt.Errorf("sent %q, got %q", sent, got))
		}
	}
	return api.Answer{OK: true, Text: "5 messages echoed"}
}

// insecureTLS is for the test server's self-made certificate: what is tested is that bytes pass, not
// whom they come from.
func insecureTLS() *tls.Config { return &tls.Config{InsecureSkipVerify: true} }
