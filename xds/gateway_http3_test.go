package xds_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/quic-go/quic-go"
	"github.com/quic-go/quic-go/http3"
	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// dialHTTP3 opens a connection with HTTP/3 for a server name.
func dialHTTP3(t *testing.T, s mesh.Socket, sni string, certificates ...tls.Certificate) (*quic.Conn, *http3.ClientConn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	config := &tls.Config{ServerName: sni, NextProtos: []string{http3.NextProtoH3}, Certificates: certificates, InsecureSkipVerify: true} //nolint:gosec // the tests look at routes
	conn, err := quic.DialAddr(ctx, fmt.Sprintf("127.0.0.1:%d", s.Bind), config, &quic.Config{HandshakeIdleTimeout: 5 * time.Second})
	if err != nil {
		return nil, nil, err
	}
	t.Cleanup(func() { _ = conn.CloseWithError(0, "") })
	return conn, (&http3.Transport{}).NewClientConn(conn), nil
}

// overHTTP3 sends a request over a connection, and returns the answer and its body.
func overHTTP3(t *testing.T, c *http3.ClientConn, host, path string) (*http.Response, string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.RoundTrip(r)
	if err != nil {
		return nil, "", err
	}
	body, err := io.ReadAll(res.Body)
	return res, string(body), err
}

// askHTTP3 is ask over HTTP/3 with a connection of its own, once Envoy serves it.
func askHTTP3(t *testing.T, s mesh.Socket, sni, host, path string, certificates ...tls.Certificate) (*http.Response, string) {
	t.Helper()
	var res *http.Response
	var body string
	eventually(t, "an answer over HTTP/3", func() bool {
		_, c, err := dialHTTP3(t, s, sni, certificates...)
		if err == nil {
			res, body, err = overHTTP3(t, c, host, path)
		}
		return err == nil
	})
	return res, body
}

// https is a listener whose requests go to the Service "one".
func https(name, host string, http3 bool) mesh.Listener {
	return mesh.Listener{
		Name: name, Protocol: gatewayv1.HTTPSProtocolType, Hostname: host, Hosts: hosts(host, "one"),
		TLS: &mesh.ListenerTLS{Certificates: []string{"gateway/secret"}, HTTP3: http3},
	}
}

// HTTP/3 is served and offered where a listener asks for it, with the same rules as over TCP.
func TestGatewayHTTP3(t *testing.T) {
	chain, key := pair(t, "example.org")
	gw := shopEdge
	gw.Clients.ForwardClientCertificate = true
	gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}, {Name: "gateway/ca", CAs: chain}}
	socket := mesh.Socket{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{
		https("own", "own.org", true), https("plain", "plain.org", false), https("wild", "*.wild.org", true),
	}}
	strict, lax := https("strict", "strict.org", true), https("lax", "lax.org", true)
	strict.TLS.ClientCA, lax.TLS.ClientCA, lax.TLS.AllowInvalidClient = "gateway/ca", "gateway/ca", true
	validating := mesh.Socket{Port: 8443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{strict, lax}}
	gw.Sockets = []mesh.Socket{socket, validating}
	g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
	g.validate()
	for _, test := range []struct {
		sni, host string
		status    int
		offered   string // over TCP
	}{
		{"own.org", "own.org", 200, `h3=":443"; ma=86400`},
		{"own.org", "a.wild.org", 421, `h3=":443"; ma=86400`},
		{"own.org", "plain.org", 421, `h3=":443"; ma=86400`},
		{"a.wild.org", "b.wild.org", 200, `h3=":443"; ma=86400`},
		{"plain.org", "plain.org", 200, ""},
	} {
		res, _ := ask(t, socket, test.sni, "GET", test.host, "/")
		if got := res.Header.Get("alt-svc"); res.StatusCode != test.status || got != test.offered {
			t.Errorf("%s over %s and TCP: got %d, alt-svc %q; want %d, %q", test.host, test.sni, res.StatusCode, got, test.status, test.offered)
		}
		if test.offered == "" {
			if _, _, err := dialHTTP3(t, socket, test.sni); err == nil {
				t.Errorf("%s: HTTP/3 is served", test.sni)
			}
			continue
		}
		res, body := askHTTP3(t, socket, test.sni, test.host, "/x/../y")
		if res.StatusCode != test.status || res.Header.Get("alt-svc") != "" {
			t.Errorf("%s over %s and QUIC: got %d, alt-svc %q; want %d", test.host, test.sni, res.StatusCode, res.Header.Get("alt-svc"), test.status)
		}
		if test.status == 200 && (body != "one HTTP/1.1 /y" || res.Header.Get("Got-X-Forwarded-Proto") != "https" || res.Header.Get("Got-X-Forwarded-For") == "") {
			t.Errorf("%s over QUIC: %q %v", test.host, body, res.Header)
		}
	}

	mine, err := tls.X509KeyPair(chain, key)
	if err != nil {
		t.Fatal(err)
	}
	other, otherKey := pair(t, "stranger.org")
	stranger, err := tls.X509KeyPair(other, otherKey)
	if err != nil {
		t.Fatal(err)
	}
	if res, _ := askHTTP3(t, validating, "strict.org", "strict.org", "/", mine); !strings.Contains(res.Header.Get("Got-X-Forwarded-Client-Cert"), "DNS=example.org") {
		t.Errorf("a client with a certificate: %d %v", res.StatusCode, res.Header)
	}
	if res, _ := askHTTP3(t, validating, "lax.org", "lax.org", "/", stranger); res.StatusCode != 200 || res.Header.Get("Got-X-Forwarded-Client-Cert") != "" {
		t.Errorf("a stranger where that is allowed: %d %v", res.StatusCode, res.Header)
	}
	for name, certificates := range map[string][]tls.Certificate{"no certificate": nil, "a stranger's": {stranger}} {
		_, c, err := dialHTTP3(t, validating, "strict.org", certificates...) // the server judges after the client's handshake
		if err == nil {
			_, _, err = overHTTP3(t, c, "strict.org", "/")
		}
		if err == nil || !strings.Contains(err.Error(), "TLS handshake failure") {
			t.Errorf("%s: %v, want a handshake that fails", name, err)
		}
	}
	// A session is resumed only where no certificate would have to be checked again.
	for _, test := range []struct {
		socket mesh.Socket
		sni    string
		want   bool
	}{{socket, "own.org", true}, {validating, "strict.org", false}, {validating, "lax.org", false}} {
		config := &tls.Config{
			ServerName: test.sni, NextProtos: []string{http3.NextProtoH3}, Certificates: []tls.Certificate{mine}, InsecureSkipVerify: true, //nolint:gosec // the test looks at sessions
			ClientSessionCache: tls.NewLRUClientSessionCache(1),
		}
		resumed := false
		for range 2 {
			conn, err := quic.DialAddrEarly(t.Context(), fmt.Sprintf("127.0.0.1:%d", test.socket.Bind), config, nil)
			if err != nil {
				t.Fatal(err)
			}
			// The ticket comes before the answer.
			if _, _, err := overHTTP3(t, (&http3.Transport{}).NewClientConn(conn), test.sni, "/"); err != nil {
				t.Fatal(err)
			}
			resumed = conn.ConnectionState().TLS.DidResume
			if conn.ConnectionState().Used0RTT {
				t.Errorf("%s: early data is taken", test.sni)
			}
			_ = conn.CloseWithError(0, "")
		}
		if resumed != test.want {
			t.Errorf("%s: a session is resumed: %t, want %t", test.sni, resumed, test.want)
		}
	}
}

// Certificates of all kinds are served over QUIC. Another one comes without another listener, and one that is late is used when it comes.
func TestGatewayHTTP3Certificates(t *testing.T) {
	gw := shopEdge
	gw.Sockets = []mesh.Socket{{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{https("all", "", true)}}}
	g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
	if _, _, err := dialHTTP3(t, gw.Sockets[0], "any.com"); err == nil {
		t.Error("a handshake without a certificate")
	}
	rsaKey, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	ec := func(curve elliptic.Curve) crypto.Signer {
		k, err := ecdsa.GenerateKey(curve, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		return k
	}
	var kept *quic.Conn
	for name, k := range map[string]crypto.Signer{"rsa": rsaKey, "p256": ec(elliptic.P256()), "p384": ec(elliptic.P384()), "p521": ec(elliptic.P521())} {
		chain, key := pairOf(t, k, name+".org")
		gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}}
		g.set(envoy.GatewayResources(gw, g.cfg)...)
		eventually(t, "the certificate "+name+" is used", func() bool {
			conn, _, err := dialHTTP3(t, gw.Sockets[0], "any.com")
			if err != nil || !slices.Contains(conn.ConnectionState().TLS.PeerCertificates[0].DNSNames, name+".org") {
				return false
			}
			if kept == nil {
				kept = conn
			}
			return true
		})
	}
	if err := kept.Context().Err(); err != nil {
		t.Errorf("a connection ended with another certificate: %v", context.Cause(kept.Context()))
	}
}

// A connection outlives changes of routes, of other listeners, and its open requests the end of HTTP/3 at its listener.
func TestGatewayHTTP3Survives(t *testing.T) {
	chain, key := pair(t, "example.org")
	next := make(chan string)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for text := range next {
			fmt.Fprint(w, text)
			w.(http.Flusher).Flush()
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(next) })
	gw := shopEdge
	gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}}
	socket := mesh.Socket{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{https("own", "own.org", true)}}
	socket.Listeners[0].Hosts = []mesh.VirtualHost{{Name: "own.org", Rules: []mesh.Rule{under("/stream", to("stream")), under("/", to("one"))}}}
	gw.Sockets = []mesh.Socket{socket}
	g := startGateway(t, gw, func(g *gatewayOf) {
		g.service(backendOf("one"), backendNamed(t, "one"))
		g.service(backendOf("two"), backendNamed(t, "two"))
		g.service(backendOf("stream"), netip.MustParseAddrPort(s.Listener.Addr().String()))
	})
	askHTTP3(t, socket, "own.org", "own.org", "/")
	conn, c, err := dialHTTP3(t, socket, "own.org")
	if err != nil {
		t.Fatal(err)
	}
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://own.org/stream", nil)
	if err != nil {
		t.Fatal(err)
	}
	go func() { next <- "hello" }()
	stream, err := c.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	continues := func(after string) {
		t.Helper()
		go func() { next <- "hello" }()
		b := make([]byte, len("hello"))
		if _, err := io.ReadFull(stream.Body, b); err != nil || string(b) != "hello" {
			t.Fatalf("after %s the open request got %q %v", after, b, err)
		}
	}
	continues("its beginning")

	gw.Sockets[0].Listeners[0].Hosts[0].Rules[1] = under("/", to("two"))
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	eventually(t, "the new route is in use", func() bool {
		_, body, err := overHTTP3(t, c, "own.org", "/")
		return err == nil && strings.HasPrefix(body, "two")
	})
	continues("another route")

	gw.Sockets[0].Listeners = append(gw.Sockets[0].Listeners, https("more", "more.org", true))
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	askHTTP3(t, socket, "more.org", "more.org", "/")
	if _, body, err := overHTTP3(t, c, "own.org", "/"); err != nil || !strings.HasPrefix(body, "two") || conn.Context().Err() != nil {
		t.Errorf("after another listener: %q %v", body, err)
	}
	continues("another listener")

	own := *gw.Sockets[0].Listeners[0].TLS
	own.HTTP3 = false
	gw.Sockets[0].Listeners[0].TLS = &own
	g.set(envoy.GatewayResources(gw, g.cfg)...)
	eventually(t, "HTTP/3 is off", func() bool { _, _, err := dialHTTP3(t, socket, "own.org"); return err != nil })
	continues("the end of HTTP/3")
}

// A large request over QUIC is not slowed down if the kernel puts its packets together.
func TestGatewayHTTP3Upload(t *testing.T) {
	gw := shopEdge
	chain, key := pair(t, "any.com")
	gw.Sockets = []mesh.Socket{{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{https("all", "", true)}}}
	gw.Secrets = []mesh.Secret{{Name: gw.Sockets[0].Listeners[0].TLS.Certificates[0], Chain: chain, Key: key}}
	sink := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		fmt.Fprint(w, n)
	}))
	t.Cleanup(sink.Close)
	startGateway(t, gw, func(g *gatewayOf) {
		g.service(backendOf("one"), netip.MustParseAddrPort(sink.Listener.Addr().String()))
	})
	var client *http3.ClientConn
	eventually(t, "HTTP/3 is served", func() (ok bool) {
		_, c, err := dialHTTP3(t, gw.Sockets[0], "any.com")
		client = c
		return err == nil
	})
	const size = 10_000_000 // it would take a minute
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, "https://any.com/", bytes.NewReader(make([]byte, size)))
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.RoundTrip(r)
	if err != nil {
		t.Fatal(err)
	}
	if body, err := io.ReadAll(res.Body); err != nil || string(body) != fmt.Sprint(size) {
		t.Errorf("%q bytes arrived, error %v", body, err)
	}
}
