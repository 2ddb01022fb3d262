package probe

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"

	"github.com/mizzen-mesh/mizzen/internal/appprobe"
)

// maxBody is how much of an answer is read.
const maxBody = 10 << 10

// maxRedirects to the same host are followed.
const maxRedirects = 10

func (p *Prober) transport(h2c bool) *http.Transport {
	t := &http.Transport{
		DialContext:        p.dial,
		DisableKeepAlives:  true,
		DisableCompression: true,
		// No proxy from the environment, and no verification: the kubelet does neither.
		TLSClientConfig:   &tls.Config{InsecureSkipVerify: true},
		ForceAttemptHTTP2: true,
	}
	if h2c {
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	return t
}

func (p *Prober) httpGet(ctx context.Context, action *appprobe.HTTPGet, userAgent string) error {
	req, err := p.request(ctx, action, userAgent)
	if err != nil {
		return err
	}
	client := &http.Client{Transport: p.http1, CheckRedirect: checkRedirect}
	if action.Protocol == appprobe.ProtocolHTTP2 {
		client.Transport = p.h2c
	}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, io.LimitReader(res.Body, maxBody)); err != nil {
		return err
	}
	// A redirect to another host is not followed and counts as success.
	if res.StatusCode < 200 || res.StatusCode >= 400 {
		return StatusError(res.StatusCode)
	}
	return nil
}

func (p *Prober) request(ctx context.Context, action *appprobe.HTTPGet, userAgent string) (*http.Request, error) {
	u, err := url.Parse(action.Path)
	if err != nil {
		u = &url.URL{Path: action.Path} // as the kubelet: a path that is no URL is passed on as it is
	}
	u.Scheme = "http"
	if action.Scheme != "" {
		u.Scheme = strings.ToLower(action.Scheme)
	}
	u.Host = p.address(action.Host, action.Port)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, err
	}
	for _, h := range action.HTTPHeaders {
		req.Header.Add(h.Name, h.Value)
	}
	if _, ok := req.Header["User-Agent"]; !ok {
		req.Header.Set("User-Agent", userAgent)
	}
	if _, ok := req.Header["Accept"]; !ok {
		req.Header.Set("Accept", "*/*")
	} else if req.Header.Get("Accept") == "" {
		req.Header.Del("Accept")
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
	}
	return req, nil
}

func checkRedirect(req *http.Request, via []*http.Request) error {
	if req.URL.Hostname() != via[0].URL.Hostname() {
		return http.ErrUseLastResponse
	}
	if len(via) >= maxRedirects {
		return errors.New("stopped after 10 redirects")
	}
	return nil
}
