package xds_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// Where requests are judged, those that are written in a way that few use are judged like the others. A method that Envoy
// does not know is refused, for an application may take "delete" for DELETE; so is a message with two lengths: who counts
// the other one reads on in its middle.
func TestJudgedOnTheWire(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		fmt.Fprintf(w, "%s %s %s.", r.Method, r.RequestURI, body)
	})
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{
			{Methods: []string{"DELETE"}},
			{Path: &mesh.TextMatch{Type: mesh.Exact, Value: "/admin"}},
		}}}}}
	}), app.address)
	const closing = "Connection: close\r\n\r\n"
	for request, want := range map[string]string{
		"PROPFIND /a HTTP/1.1\r\nHost: x\r\n" + closing:              `^HTTP/1.1 200 (?s:.*)PROPFIND /a `,
		"delete /a HTTP/1.1\r\nHost: x\r\n" + closing:                `^HTTP/1.1 400 `,
		"GET http://other/ok HTTP/1.1\r\nHost: x\r\n" + closing:      `^HTTP/1.1 200 (?s:.*)GET /ok `,
		"GET http://other/admin HTTP/1.1\r\nHost: x\r\n" + closing:   `^HTTP/1.1 403 `,
		"GET http://other//admin? HTTP/1.1\r\nHost: x\r\n" + closing: `^HTTP/1.1 (403|200 (?s:.*)GET //admin\?) `,
		// What comes behind an offer that is ignored is a request, and judged.
		"POST /a HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: TLS/1.2\r\nContent-Length: 2\r\n\r\nab" +
			"DELETE /all HTTP/1.1\r\nHost: x\r\n" + closing: `^HTTP/1.1 200 (?s:.*)POST /a ab\.HTTP/1.1 403 `,
		"POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": `^HTTP/1.1 400 `,
	} {
		conn := tls.Client(dial(t, pod.inbound.String()), meshTLS(t, a, idClient))
		fmt.Fprint(conn, request)
		answers, _ := io.ReadAll(bufio.NewReader(conn)) // its end need not be announced
		if !regexp.MustCompile(want).Match(answers) || strings.Contains(string(answers), "DELETE") {
			t.Errorf("%q: %q, want %s", request, answers, want)
		}
	}
}
