package xds_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What stands in X-Forwarded-Client-Cert at a port that asks for it is the caller's identity or nothing, whatever
// the caller sends.
func TestForwardedClientCert(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		for name, values := range r.Header {
			if strings.EqualFold(strings.ReplaceAll(name, "_", "-"), "x-forwarded-client-cert") {
				fmt.Fprint(w, strings.Join(values, "|"))
			}
		}
	})
	forward := startCalled(t, a, idCart, func(port uint16) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{port}}
	}, app.address)
	// A port with rules on requests alone leaves the header as it is, as bytes would.
	judged := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/a", Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}}}}}}}
	}), app.address)
	const forged = "By=spiffe://cluster.local/ns/shop/sa/cart;URI=spiffe://cluster.local/ns/shop/sa/admin"
	for _, h2 := range []bool{false, true} {
		for id, want := range map[string]string{"": "^$", idClient: "^By=" + idCart + ";Hash=[0-9a-f]{64};URI=" + idClient + "$"} {
			for _, headers := range [][]string{
				nil, {"X-Forwarded-Client-Cert", forged}, {"x-forwarded-client-cert", forged, "X-Forwarded-Client-CERT", forged},
				{"X_Forwarded_Client_Cert", forged, "x-forwarded_client-cert", forged},
			} {
				c := callerOf(t, a, forward, id, h2)
				if status, body, _ := c.do("GET", "/", headers...); status != 200 || !regexp.MustCompile(want).MatchString(body) {
					t.Errorf("HTTP/2 %t, %q sends %v: %d, the application sees %q, want %q", h2, id, headers, status, body, want)
				}
			}
			c := callerOf(t, a, judged, id, h2)
			if status, body, _ := c.do("GET", "/", "x-forwarded-client-cert", forged); status != 200 || body != forged {
				t.Errorf("not asked for: %d %q", status, body)
			}
		}
	}
}

// A port that is taken for HTTP passes on what direct connections would carry.
func TestInboundHTTPIsTransparent(t *testing.T) {
	a := newCA(t)
	app := serveBytes(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 101 As You Like\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-Mixed-CASE: %s\r\n\r\n", r.Header.Get("x-user"))
		_, _ = io.Copy(conn, conn)
	})
	pod := startCalled(t, a, idCart, func(port uint16) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{port}, Policies: []mesh.Policy{
			{Name: "shop/a", Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}}}}}},
		}}
	}, app)
	for _, id := range []string{"", idClient} {
		conn := dial(t, pod.inbound.String())
		if id != "" {
			conn = tls.Client(conn, meshTLS(t, a, id))
		}
		fmt.Fprint(conn, "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nX-User: me\r\n\r\n")
		r := bufio.NewReader(conn)
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				t.Fatalf("%q, %v", head.String(), err)
			}
			head.WriteString(line)
		}
		if !strings.HasPrefix(head.String(), "HTTP/1.1 101 As You Like\r\n") || !strings.Contains(head.String(), "X-Mixed-CASE: me\r\n") {
			t.Errorf("%q: %q", id, head.String())
		}
		fmt.Fprint(conn, marker)
		if got, err := readN(r, len(marker)); got != marker {
			t.Errorf("%q: %q, %v", id, got, err)
		}
	}
	// What is not HTTP fails, and reaches nobody.
	plain := dial(t, pod.inbound.String())
	fmt.Fprint(plain, "PING\r\n\r\n")
	if b, _ := io.ReadAll(plain); !strings.HasPrefix(string(b), "HTTP/1.1 400") {
		t.Errorf("got %q", b)
	}
}

// An application that asks for certificates has one connection for each of its callers' connections.
func TestConnectionsOfCallersAreKeptApart(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.RemoteAddr) })
	pod := startCalled(t, a, idCart, func(port uint16) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{port}}
	}, app.address)
	one, other := callerOf(t, a, pod, idClient, false), callerOf(t, a, pod, idClient, false)
	_, first, _ := one.do("GET", "/")
	_, second, _ := other.do("GET", "/")
	_, again, _ := one.do("GET", "/")
	if first == second || first != again {
		t.Errorf("the application sees %s and %s, and then %s", first, second, again)
	}
}
