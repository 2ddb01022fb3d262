package identity

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

const (
	dialTimeout = 5 * time.Second
	// signTimeout bounds a request for a certificate, which waits for the API server.
	signTimeout = 15 * time.Second
	// pollTimeout bounds a request for the roots, which waits for a change.
	pollTimeout = api.BundleWait + 15*time.Second
	// maxHeader bounds an answer's header in bytes.
	maxHeader = 16 << 10
	// maxError bounds what is shown of an answer's error, in bytes.
	maxError = 1 << 10
)

// client speaks to the control plane's identity server (internal/identity/api).
type client struct {
	address, host, dialled string
	current                func() *credentials
	// poll keeps its connections.
	poll *http.Client
}

func newClient(address, dialled string, current func() *credentials) (*client, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	c := &client{address: address, host: host, dialled: dialled, current: current}
	c.poll = &http.Client{
		Timeout: pollTimeout,
		Transport: &http.Transport{
			DialTLSContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
				return c.dial(ctx, network, true)
			},
			MaxIdleConns:           1,
			MaxResponseHeaderBytes: maxHeader,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return c, nil
}

// dial makes a connection with the roots, and the certificate, of the moment. Who asks for a certificate presents none: one
// that is out of date would end the handshake in which it is to be replaced.
func (c *client) dial(ctx context.Context, network string, withCertificate bool) (net.Conn, error) {
	now := c.current()
	settings := now.tls(c.host, "http/1.1")
	if !withCertificate {
		settings.Certificates = nil
	}
	return dial(ctx, network, c.dialled, settings)
}

// tls is for a peer of that name, with the roots and the certificate, if there is one.
func (c *credentials) tls(host, protocol string) *tls.Config {
	settings := &tls.Config{MinVersion: tls.VersionTLS13, ServerName: host, RootCAs: c.roots.pool, NextProtos: []string{protocol}}
	if c.certificate != nil {
		settings.Certificates = []tls.Certificate{*c.certificate}
	}
	return settings
}

func dial(ctx context.Context, network, address string, settings *tls.Config) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, dialTimeout)
	defer cancel()
	d := tls.Dialer{Config: settings}
	return d.DialContext(ctx, network, address)
}

// Dial makes a connection for gRPC to a server of the control plane at the address, whose certificate is for this host.
func (i *Identity) Dial(ctx context.Context, host, address string) (net.Conn, error) {
	return dial(ctx, "tcp", address, i.current.Load().tls(host, "h2"))
}

// certificate sends a signing request over a connection that is for it alone, and which the caller closes. date is when the
// control plane answered, by its own clock; zero if it does not say.
func (c *client) certificate(ctx context.Context, conn net.Conn, csr, token string) (answer api.Certificate, date time.Time, err error) {
	body, err := json.Marshal(api.CertificateRequest{CSR: csr})
	if err != nil {
		return answer, date, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://"+c.address+api.CertificatePath, bytes.NewReader(body))
	if err != nil {
		return answer, date, err
	}
	req.Header.Set("Authorization", "Bearer "+token)
	req.Header.Set("Content-Type", "application/json")
	req.Close = true
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	if err := req.Write(conn); err != nil {
		return answer, date, cmp.Or(ctx.Err(), err)
	}
	res, err := http.ReadResponse(bufio.NewReader(io.LimitReader(conn, maxHeader+api.MaxBody+1)), req)
	if err != nil {
		return answer, date, cmp.Or(ctx.Err(), err)
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return answer, date, refusal(res)
	}
	date, _ = http.ParseTime(res.Header.Get("Date")) // zero if it says nothing
	return answer, date, decode(res.Body, &answer)
}

// bundle waits for other roots than those of version have. nil is no news.
func (c *client) bundle(ctx context.Context, have string) (*api.Bundle, error) {
	address := "https://" + c.address + api.BundlePath
	if have != "" {
		address += "?" + api.HaveParameter + "=" + url.QueryEscape(have)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return nil, err
	}
	res, err := c.poll.Do(req)
	if err != nil {
		return nil, plain(err)
	}
	defer res.Body.Close()
	switch res.StatusCode {
	case http.StatusNoContent:
		return nil, nil
	case http.StatusOK:
		answer := &api.Bundle{}
		return answer, decode(res.Body, answer)
	}
	return nil, refusal(res)
}

// close ends connections that nobody uses, so that the next ones are made with what holds by then.
func (c *client) close() { c.poll.CloseIdleConnections() }

// plain takes the URL from an error: who was asked is said elsewhere.
func plain(err error) error {
	if e := (*url.Error)(nil); errors.As(err, &e) {
		return e.Err
	}
	return err
}

// errAnswer is that of an answer that is not what it should be.
var errAnswer = errors.New("cannot use the control plane's answer")

// decode reads one JSON value of at most api.MaxBody bytes.
func decode(r io.Reader, into any) error {
	b, err := io.ReadAll(io.LimitReader(r, api.MaxBody+1))
	switch {
	case err != nil:
		return fmt.Errorf("read the answer: %w", err)
	case len(b) > api.MaxBody:
		return fmt.Errorf("%w: more than %d bytes", errAnswer, api.MaxBody)
	}
	if err := json.Unmarshal(b, into); err != nil {
		return fmt.Errorf("%w: %w", errAnswer, err)
	}
	return nil
}

// refusedError is an answer that is neither 200 nor 204.
type refusedError struct {
	status int
	text   string
	// after is how long the control plane asks to wait; 0 if it does not say.
	after time.Duration
}

func (e *refusedError) Error() string { return fmt.Sprintf("answered with %d: %s", e.status, e.text) }

// final says that the same request will hardly do better.
func (e *refusedError) final() bool {
	return e.status >= 400 && e.status < 500 && e.status != http.StatusTooManyRequests
}

func refusal(res *http.Response) error {
	e := &refusedError{status: res.StatusCode, text: http.StatusText(res.StatusCode)}
	if s, err := strconv.Atoi(res.Header.Get("Retry-After")); err == nil && s > 0 {
		e.after = time.Duration(min(s, 60)) * time.Second
	}
	var body api.Error
	if err := decode(res.Body, &body); err == nil && body.Error != "" {
		e.text = body.Error[:min(len(body.Error), maxError)]
	}
	return e
}
