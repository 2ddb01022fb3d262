package load

import (
	"bytes"
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
)

// calls gives one call for each stream of each connection, and what closes the connections.
func (s Scenario) calls(t Target) ([]Call, func(), error) {
	var calls []Call
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	for range s.Conns {
		var one Call
		closer := func() {}
		switch {
		case !s.TCP():
			one, closer = s.httpCall(t)
		case s.Kind == Connect:
			one = s.dialCall(t.Address)
		default:
			c, err := net.Dial("tcp", t.Address) //nolint:noctx // over loopback
			if err != nil {
				return nil, closeAll, err
			}
			one, closer = s.echoCall(c), func() { c.Close() }
		}
		closers = append(closers, closer)
		for range s.Streams {
			calls = append(calls, one)
		}
	}
	return calls, closeAll, nil
}

// httpCall calls over one connection, or each time over a new one.
func (s Scenario) httpCall(to Target) (Call, func()) {
	t := &http.Transport{
		Protocols: new(http.Protocols), MaxConnsPerHost: 1, DisableCompression: true, DisableKeepAlives: s.Kind == HTTP1Once,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, to.Address)
		},
	}
	if to.TLS != nil {
		t.TLSClientConfig = to.TLS.Clone()
	}
	once := s.Kind == HTTP1 || s.Kind == HTTP1Once
	t.Protocols.SetHTTP1(once)
	t.Protocols.SetHTTP2(!once && to.TLS != nil)
	t.Protocols.SetUnencryptedHTTP2(!once && to.TLS == nil)
	url := s.url(to)
	return func() error {
		req, err := http.NewRequest(http.MethodGet, url, nil) //nolint:noctx // what is measured is the call
		if s.Kind == GRPC {
			req, err = http.NewRequest(http.MethodPost, url, bytes.NewReader(GRPCMessage)) //nolint:noctx // as above
			req.Header = http.Header{"Content-Type": {"application/grpc"}, "Te": {"trailers"}}
		}
		if err != nil {
			return err
		}
		res, err := t.RoundTrip(req)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if n, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || n != int64(s.Size) {
			return fmt.Errorf("%s: %s after %d bytes of %d: %w", url, res.Status, n, s.Size, err)
		}
		return nil
	}, t.CloseIdleConnections
}

// Ask makes one request of a scenario, to see whether a target answers.
func Ask(s Scenario, t Target) error {
	one, end := s.httpCall(t)
	defer end()
	return one()
}

// Unverified calls a server by a name and takes any certificate.
func Unverified(name string) *tls.Config {
	return &tls.Config{ServerName: name, InsecureSkipVerify: true} //nolint:gosec // what is measured is the proxy
}

// echoCall sends a message and reads it back.
func (s Scenario) echoCall(c net.Conn) Call {
	message := make([]byte, s.Size)
	return func() error {
		if _, err := c.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(c, message)
		return err
	}
}

// dialCall does the same on a connection of its own.
func (s Scenario) dialCall(address string) Call {
	return func() error {
		c, err := net.Dial("tcp", address) //nolint:noctx // over loopback
		if err != nil {
			return err
		}
		defer c.Close()
		return s.echoCall(c)()
	}
}
