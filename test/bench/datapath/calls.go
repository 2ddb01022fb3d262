package main

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
)

// calls gives one call for each stream of each connection, and what closes the connections.
func (s scenario) calls(target string) ([]call, func(), error) {
	var calls []call
	var closers []func()
	closeAll := func() {
		for _, c := range closers {
			c()
		}
	}
	for range s.conns {
		var one call
		closer := func() {}
		switch {
		case !s.isTCP():
			one, closer = s.httpCall(target)
		case s.kind == connect:
			one = s.dialCall(target)
		default:
			c, err := net.Dial("tcp", target) //nolint:noctx // over loopback
			if err != nil {
				return nil, closeAll, err
			}
			one, closer = s.echoCall(c), func() { c.Close() }
		}
		closers = append(closers, closer)
		for range s.streams {
			calls = append(calls, one)
		}
	}
	return calls, closeAll, nil
}

// httpCall calls over one connection.
func (s scenario) httpCall(target string) (call, func()) {
	t := &http.Transport{Protocols: new(http.Protocols), MaxConnsPerHost: 1, DisableCompression: true}
	t.Protocols.SetHTTP1(s.kind == http1)
	t.Protocols.SetUnencryptedHTTP2(s.kind != http1)
	return func() error {
		req, err := http.NewRequest(http.MethodGet, "http://"+target+s.path(), nil) //nolint:noctx // what is measured is the call
		if s.kind == grpc {
			req, err = http.NewRequest(http.MethodPost, "http://"+target+s.path(), bytes.NewReader(grpcMessage)) //nolint:noctx // as above
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
		if n, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK || n != int64(s.size) {
			return fmt.Errorf("%s after %d bytes of %d: %w", res.Status, n, s.size, err)
		}
		return nil
	}, t.CloseIdleConnections
}

// echoCall sends a message and reads it back.
func (s scenario) echoCall(c net.Conn) call {
	message := make([]byte, s.size)
	return func() error {
		if _, err := c.Write(message); err != nil {
			return err
		}
		_, err := io.ReadFull(c, message)
		return err
	}
}

// dialCall does the same on a connection of its own.
func (s scenario) dialCall(target string) call {
	return func() error {
		c, err := net.Dial("tcp", target) //nolint:noctx // over loopback
		if err != nil {
			return err
		}
		defer c.Close()
		return s.echoCall(c)()
	}
}
