package client

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"strings"

	"github.com/mizzen-mesh/mizzen/test/e2e/testapp/api"
)

// serviceAccountDir is where Kubernetes mounts the pod's token and the cluster's CA.
const serviceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"

// httpCaller makes the same HTTP call again and again.
type httpCaller struct {
	c      api.Call
	url    string
	token  string
	client *http.Client
}

func newHTTPCaller(c api.Call, fresh bool) (*httpCaller, error) {
	u, err := url.Parse(c.Target)
	if err != nil {
		return nil, err
	}
	if c.Delay > 0 {
		q := u.Query()
		q.Set("delay", c.Delay.String())
		u.RawQuery = q.Encode()
	}
	t := &http.Transport{DisableKeepAlives: fresh, TLSClientConfig: insecureTLS(), MaxIdleConnsPerHost: 100, Protocols: new(http.Protocols)}
	t.Protocols.SetHTTP1(c.Kind != api.HTTP2)
	t.Protocols.SetUnencryptedHTTP2(c.Kind == api.HTTP2)
	if c.TLS != nil {
		if t.TLSClientConfig, err = tlsConfig(c.TLS); err != nil {
			return nil, err
		}
	}
	h := &httpCaller{c: c, url: u.String(), client: &http.Client{Transport: t}}
	if c.Kind != api.APIServer {
		return h, nil
	}
	token, err := os.ReadFile(serviceAccountDir + "/token")
	if err != nil {
		return nil, err
	}
	ca, err := os.ReadFile(serviceAccountDir + "/ca.crt")
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca)
	h.token, t.TLSClientConfig = string(token), &tls.Config{RootCAs: roots}
	return h, nil
}

func (h *httpCaller) close() { h.client.CloseIdleConnections() }

func (h *httpCaller) call(ctx context.Context) api.Answer {
	var body io.Reader
	switch {
	case len(h.c.Content) > 0:
		body = bytes.NewReader(h.c.Content)
	case h.c.Body > 0:
		body = bytes.NewReader(make([]byte, h.c.Body))
	}
	req, err := http.NewRequestWithContext(ctx, h.c.Method, h.url, body)
	if err != nil {
		return failed(err)
	}
	if h.c.Host != "" {
		req.Host = h.c.Host
	}
	for name, value := range h.c.Headers {
		req.Header.Set(name, value)
	}
	if h.token != "" {
		req.Header.Set("Authorization", "Bearer "+h.token)
	}
	resp, err := h.client.Do(req)
	if err != nil {
		return failed(err)
	}
	defer resp.Body.Close()
	text, err := h.read(resp)
	if err != nil {
		return failed(err)
	}
	a := api.Answer{OK: resp.StatusCode < 300, Status: resp.StatusCode, Pod: resp.Header.Get("X-Pod")}
	a.Text = fmt.Sprintf("%d %s", resp.StatusCode, text)
	if h.c.TLS != nil && resp.TLS != nil {
		a.Peer = peerPEM(*resp.TLS)
	}
	if h.c.PodInBody {
		a.Pod = text
	}
	if !a.OK {
		a.Error = a.Text
	}
	return a
}

// longest answer that is told whole. One to a content of the test's own choice is.
func (h *httpCaller) longest() int {
	if h.c.Content != nil {
		return 1 << 20
	}
	return 512
}

// read says what the answer was without names that differ from run to run. Whole bodies are read, as
// Content-Length, trailers and the last chunk are checked on the way.
func (h *httpCaller) read(resp *http.Response) (string, error) {
	b, err := io.ReadAll(resp.Body)
	switch {
	case err != nil:
		return "", err
	case h.c.Kind == api.APIServer && resp.StatusCode == http.StatusOK:
		return fmt.Sprintf("version=%t", bytes.Contains(b, []byte("gitVersion"))), nil
	case h.c.Kind == api.HTTPStream:
		return fmt.Sprintf("%d chunks, trailer %q", bytes.Count(b, []byte("\n")), resp.Trailer.Get("X-Checksum")), nil
	case len(b) > h.longest():
		return fmt.Sprintf("%d bytes", len(b)), nil
	default:
		return strings.TrimSpace(string(b)), nil
	}
}
