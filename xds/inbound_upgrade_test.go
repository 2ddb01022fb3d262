package xds_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Nobody gets a second request past the policies behind one that asks for a tunnel or another protocol: an application
// that answers it as any other reads on, and what comes behind it is bytes to the sidecar.
func TestNoRequestBehindATunnel(t *testing.T) {
	a := newCA(t)
	connections := make(chan []string, 3) // the methods that were served on each
	app := serveBytes(t, func(conn net.Conn) {
		var served []string
		defer func() { connections <- served }()
		for r := bufio.NewReader(conn); ; {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			served = append(served, req.Method)
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
		}
	})
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{
			Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"DELETE"}}},
		}}}}
	}), app)
	for head, want := range map[string]string{
		"CONNECT x:80 HTTP/1.1\r\nHost: x\r\n\r\n":                                           "HTTP/1.1 403 Forbidden\r\n",
		"GET /open HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n":       "HTTP/1.1 200 OK\r\n",
		"GET /open HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n": "HTTP/1.1 200 OK\r\n",
	} {
		conn := tls.Client(dial(t, pod.inbound.String()), meshTLS(t, a, idClient))
		fmt.Fprint(conn, head+"DELETE /all HTTP/1.1\r\nHost: x\r\n\r\n")
		r := bufio.NewReader(conn)
		status, err := r.ReadString('\n')
		if status != want {
			t.Errorf("%q: %q, %v, want %q", head, status, err, want)
		}
		if strings.HasPrefix(status, "HTTP/1.1 200") {
			if !strings.HasPrefix(head, "CONNECT") { // whose tunnel stays
				_, _ = io.Copy(io.Discard, r)
			}
			conn.Close()
			if served := <-connections; slices.Contains(served, "DELETE") {
				t.Errorf("%q: the application has served %v", head, served)
			}
		}
		conn.Close()
	}
}
