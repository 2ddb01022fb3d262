package xds_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	gatewayv1 "sigs.k8s.io/gateway-api/apis/v1"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Behind proxies the client is the one that the first of them has seen, whatever the client says itself.
func TestGatewayTrustedHops(t *testing.T) {
	for hops, tests := range [][]struct{ said, client, proto string }{
		0: {{"", "127.0.0.1", "http"}, {"6.6.6.6, 7.7.7.7", "127.0.0.1", "http"}},
		1: {{"6.6.6.6, 7.7.7.7", "7.7.7.7", "https"}, {"7.7.7.7", "7.7.7.7", "https"}},
		2: {{"6.6.6.6, 7.7.7.7, 8.8.8.8", "7.7.7.7", "https"}, {"8.8.8.8", "127.0.0.1", "https"}},
	} {
		t.Run(fmt.Sprint(hops), func(t *testing.T) {
			gw := shopEdge
			gw.Clients.TrustedHops = uint32(hops)
			gw.Sockets = []mesh.Socket{{Port: 80, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{
				Name: "all", Protocol: gatewayv1.HTTPProtocolType, Hosts: hosts("", "one"),
			}}}}
			g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
			g.validate()
			for _, test := range tests {
				headers := []string{"x-forwarded-proto", "https"}
				if test.said != "" {
					headers = append(headers, "x-forwarded-for", test.said)
				}
				res, _ := ask(t, gw.Sockets[0], "", "GET", "any.com", "/", headers...)
				if got := res.Header.Get("Got-X-Envoy-External-Address"); got != test.client {
					t.Errorf("x-forwarded-for %q: the client is %s, want %s", test.said, got, test.client)
				}
				if got := res.Header.Get("Got-X-Forwarded-For"); test.said != "" && !strings.HasPrefix(got, test.said+",") {
					t.Errorf("x-forwarded-for %q: the backend got %q", test.said, got)
				}
				if got := res.Header.Get("Got-X-Forwarded-Proto"); got != test.proto {
					t.Errorf("x-forwarded-proto: the backend got %q, want %q", got, test.proto)
				}
			}
		})
	}
}

// Behind a load balancer with the PROXY protocol the client is the one that it names. Without it nothing is served.
func TestGatewayProxyProtocol(t *testing.T) {
	chain, key := pair(t, "any.com")
	gw := shopEdge
	gw.Clients.ProxyProtocol = true
	gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}}
	gw.Sockets = []mesh.Socket{
		{Port: 80, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{Name: "http", Protocol: gatewayv1.HTTPProtocolType, Hosts: hosts("", "one")}}},
		{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{
			Name: "https", Protocol: gatewayv1.HTTPSProtocolType, TLS: &mesh.ListenerTLS{Certificates: []string{"gateway/secret"}}, Hosts: hosts("", "one"),
		}}},
		{Port: 9000, Bind: reserved(t).Port(), Listeners: []mesh.Listener{{
			Name: "tcp", Protocol: gatewayv1.TCPProtocolType, Connections: []mesh.Rule{{Action: to("one")}},
		}}},
	}
	g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
	g.validate()
	v1 := "PROXY TCP4 198.51.100.7 192.0.2.1 40000 80\r\n"
	v2 := "\r\n\r\n\x00\r\nQUIT\n" + "\x21\x11\x00\x0c" + "\xc6\x33\x64\x07" + "\xc0\x00\x02\x01" + "\x9c\x40" + "\x00\x50"
	for i, socket := range gw.Sockets {
		for name, header := range map[string]string{"version 1": v1, "version 2": v2, "none": ""} {
			conn := dial(t, fmt.Sprintf("127.0.0.1:%d", socket.Bind))
			fmt.Fprint(conn, header)
			if i == 1 {
				conn = tls.Client(conn, &tls.Config{ServerName: "any.com", InsecureSkipVerify: true}) //nolint:gosec // the test looks at addresses
			}
			fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: any.com\r\nConnection: close\r\n\r\n")
			res, err := http.ReadResponse(bufio.NewReader(conn), nil)
			switch {
			case header == "":
				if err == nil {
					t.Errorf("port %d without the PROXY protocol: answer %d, want a closed connection", socket.Port, res.StatusCode)
				}
			case err != nil:
				t.Errorf("port %d, %s: %v", socket.Port, name, err)
			case i < 2 && res.Header.Get("Got-X-Forwarded-For") != "198.51.100.7":
				t.Errorf("port %d, %s: x-forwarded-for %q", socket.Port, name, res.Header.Get("Got-X-Forwarded-For"))
			}
		}
	}
}

// Only a certificate that the listener has validated is forwarded, and only if that is asked for.
func TestGatewayForwardsClientCertificate(t *testing.T) {
	chain, key := pair(t, "client.example.com")
	stranger, strangersKey := pair(t, "stranger.example.com")
	gw := shopEdge
	gw.Clients.ForwardClientCertificate = true
	gw.Secrets = []mesh.Secret{{Name: "gateway/secret", Chain: chain, Key: key}, {Name: "gateway/ca", CAs: chain}}
	own := []string{"gateway/secret"}
	socket := mesh.Socket{Port: 443, Bind: reserved(t).Port(), Listeners: []mesh.Listener{
		{Name: "strict", Protocol: gatewayv1.HTTPSProtocolType, Hostname: "strict.org", TLS: &mesh.ListenerTLS{Certificates: own, ClientCA: "gateway/ca"}, Hosts: hosts("strict.org", "one")},
		{Name: "lax", Protocol: gatewayv1.HTTPSProtocolType, Hostname: "lax.org", TLS: &mesh.ListenerTLS{Certificates: own, ClientCA: "gateway/ca", AllowInvalidClient: true}, Hosts: hosts("lax.org", "one")},
		{Name: "none", Protocol: gatewayv1.HTTPSProtocolType, Hostname: "none.org", TLS: &mesh.ListenerTLS{Certificates: own}, Hosts: hosts("none.org", "one")},
	}}
	gw.Sockets = []mesh.Socket{socket}
	g := startGateway(t, gw, func(g *gatewayOf) { g.service(backendOf("one"), backendNamed(t, "one")) })
	g.validate()
	for _, test := range []struct {
		host       string
		chain, key []byte
		forwarded  bool
	}{
		{"strict.org", chain, key, true},
		{"lax.org", chain, key, false},
		{"lax.org", stranger, strangersKey, false},
		{"none.org", chain, key, false},
	} {
		mine, err := tls.X509KeyPair(test.chain, test.key)
		if err != nil {
			t.Fatal(err)
		}
		conn, err := tls.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", socket.Bind), &tls.Config{ServerName: test.host, Certificates: []tls.Certificate{mine}, InsecureSkipVerify: true}) //nolint:gosec // the test looks at the client
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: %s\r\nX-Forwarded-Client-Cert: URI=spiffe://mine\r\nConnection: close\r\n\r\n", test.host)
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(test.host, err)
		}
		_, _ = io.Copy(io.Discard, res.Body)
		conn.Close()
		got := res.Header.Get("Got-X-Forwarded-Client-Cert")
		if !test.forwarded {
			if got != "" {
				t.Errorf("%s: the backend got %q", test.host, got)
			}
			continue
		}
		for _, part := range []string{"Hash=", "Cert=\"-----BEGIN", "Subject=", "DNS=client.example.com"} {
			if !strings.Contains(got, part) || strings.Contains(got, "spiffe://mine") {
				t.Errorf("%s: the backend got %q, want %s and nothing of the client's header", test.host, got, part)
			}
		}
	}
}
