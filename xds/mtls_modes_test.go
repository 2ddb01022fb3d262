package xds_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// ways in which somebody calls a pod, without or with an identity. Each says whether it was served.
func plainHTTP(c *called) error { return getURL(http.DefaultTransport, "http://"+c.inbound.String()) }

func getURL(transport http.RoundTripper, url string) error {
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	defer client.CloseIdleConnections()
	res, err := client.Get(url)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d, %v", res.StatusCode, err) //nolint:errorlint // err may be nil
	}
	return nil
}

// callTLS makes a handshake and wants an answer of one byte.
func callTLS(address netip.AddrPort, cfg *tls.Config) error {
	conn, err := tls.DialWithDialer(&net.Dialer{Timeout: 10 * time.Second}, "tcp", address.String(), cfg)
	if err != nil {
		return err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("GET / HTTP/1.1\r\nHost: x\r\n\r\n")); err != nil {
		return err
	}
	_, err = io.ReadFull(conn, make([]byte, 1))
	return err
}

// meshTLS is what the sidecar of an identity says; it trusts the called one as a sidecar would.
func meshTLS(t *testing.T, a *ca.Authority, id string) *tls.Config {
	t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	return &tls.Config{
		NextProtos: []string{envoy.ALPN}, RootCAs: roots, InsecureSkipVerify: true,
		Certificates: []tls.Certificate{*issue(t, a, id, 0, time.Hour)},
		VerifyConnection: func(s tls.ConnectionState) error {
			_, err := s.PeerCertificates[0].Verify(x509.VerifyOptions{Roots: roots})
			return err
		},
	}
}

// Who calls a pod from outside the mesh is served where its port is permissive and refused where it is
// strict, be it plain text or TLS to the application; the mesh is served everywhere.
func TestModes(t *testing.T) {
	a := newCA(t)
	app := named(t, "plain")
	secured := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "own") }))
	t.Cleanup(secured.Close)
	ownTLS := netip.MustParseAddrPort(secured.Listener.Addr().String())
	except := func(whole, port config.MTLSMode) inboundOf {
		return func(p uint16) mesh.Inbound {
			return mesh.BuildInbound(config.MTLS{Mode: whole, Ports: map[uint16]config.MTLSMode{p: port, 1: config.Strict}}, config.MTLS{}, "")
		}
	}
	for name, c := range map[string]struct {
		in     inboundOf
		served bool
	}{
		"permissive":                     {all(config.Permissive), true},
		"strict":                         {all(config.Strict), false},
		"permissive but for this port":   {except(config.Permissive, config.Strict), false},
		"strict but for this port":       {except(config.Strict, config.Permissive), true},
		"permissive, and so is the port": {except(config.Permissive, config.Permissive), true},
	} {
		t.Run(name, func(t *testing.T) {
			check := func(what string, served bool, err error) {
				t.Helper()
				if (err == nil) != served {
					t.Errorf("%s: served %v, want %v: %v", what, err == nil, served, err)
				}
			}
			before := app.calls.Load()
			pod := startCalled(t, a, idCart, c.in, app.address)
			check("plain text", c.served, plainHTTP(pod))
			check("the mesh", true, callTLS(pod.inbound, meshTLS(t, a, idClient)))
			if calls := app.calls.Load() - before; !c.served && calls != 1 {
				t.Errorf("%d calls reached the application, want that of the mesh", calls)
			}
			other := startCalled(t, a, idCart, c.in, ownTLS)
			check("the application's TLS", c.served, getURL(secured.Client().Transport, "https://"+other.inbound.String()))
			check("the application's TLS with h2", c.served, callTLS(other.inbound, &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}}))
		})
	}
}

// Who knows the name of the mesh's protocol but is not of the mesh is refused, also where plain text is let in.
func TestStrangersWithOurALPN(t *testing.T) {
	a, foreign := newCA(t), newCA(t)
	app := named(t, "app")
	pod := startCalled(t, a, idCart, all(config.Permissive), app.address)
	for name, change := range map[string]func(*tls.Config){
		"without a certificate": func(c *tls.Config) { c.Certificates = nil },
		"of a foreign CA":       func(c *tls.Config) { c.Certificates = meshTLS(t, foreign, idClient).Certificates },
		"of another domain":     func(c *tls.Config) { c.Certificates = meshTLS(t, a, "spiffe://cluster.local.x/ns/a/sa/b").Certificates },
		"TLS 1.2":               func(c *tls.Config) { c.MaxVersion = tls.VersionTLS12 },
		"expired": func(c *tls.Config) {
			c.Certificates = []tls.Certificate{*issue(t, a, idClient, 50*time.Minute, time.Minute)}
		},
		"certificate of servers": func(c *tls.Config) { c.Certificates = []tls.Certificate{*serverOnly(t, a)} },
	} {
		cfg := meshTLS(t, a, idClient)
		change(cfg)
		if err := callTLS(pod.inbound, cfg); err == nil {
			t.Errorf("%s: served", name)
		}
	}
	if n := app.calls.Load(); n != 0 {
		t.Errorf("%d calls reached the application", n)
	}
	if err := callTLS(pod.inbound, meshTLS(t, a, idClient)); err != nil {
		t.Error(err)
	}
}

func serverOnly(t *testing.T, a *ca.Authority) *tls.Certificate {
	t.Helper()
	uri, err := url.Parse(idClient)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Issue(ca.Leaf{URIs: []*url.URL{uri}, Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, Now: time.Now(), Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// Plain text whose server speaks first is served after the time of detection; one whose client does, at once,
// unless it says less than the five bytes by which Envoy knows TLS.
func TestWhoSpeaksFirst(t *testing.T) {
	pod := startCalled(t, newCA(t), idCart, all(config.Permissive), serveBytes(t, greet))
	for _, c := range []struct {
		name, says  string
		least, most time.Duration
	}{
		{"nothing", "", 900 * time.Millisecond, 1500 * time.Millisecond},
		{"a line", "hello, who is there?\r\n", 0, 500 * time.Millisecond},
		{"five bytes", "PING\n", 0, 500 * time.Millisecond},
		{"four bytes", "PING", 900 * time.Millisecond, 1500 * time.Millisecond},
		{"the beginning of a TLS record", "\x16\x03\x01\x02\x00\x01", 900 * time.Millisecond, 1500 * time.Millisecond},
	} {
		// A busy machine may make one of them wait for longer.
		var waited time.Duration
		for range 5 {
			start := time.Now()
			conn := dial(t, pod.inbound.String())
			fmt.Fprint(conn, c.says)
			got, err := readN(conn, len("welcome\n")+len(c.says))
			conn.Close()
			waited = time.Since(start)
			if err != nil || !strings.HasSuffix(got, c.says) {
				t.Errorf("%s: %q, %v", c.name, got, err)
			}
			if waited < c.least {
				t.Errorf("%s: waited %v, want %v at least", c.name, waited, c.least)
			}
			if waited <= c.most {
				break
			}
		}
		t.Logf("a client that says %s waits %v", c.name, waited.Round(time.Millisecond))
		if waited > c.most {
			t.Errorf("%s: waited %v, want %v at most", c.name, waited, c.most)
		}
	}
}

// A strict pod that hears nothing lets nobody in.
func TestSilenceAtAStrictPod(t *testing.T) {
	pod := startCalled(t, newCA(t), idCart, all(config.Strict), serveBytes(t, greet))
	if got, err := readN(dial(t, pod.inbound.String()), 1); !errors.Is(err, io.EOF) {
		t.Errorf("got %q, %v", got, err)
	}
}
