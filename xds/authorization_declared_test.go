package xds_test

import (
	"bufio"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// declaredHTTP is a pod whose port is declared to be HTTP, with policies.
func declaredHTTP(mode config.MTLSMode, policies ...mesh.Policy) inboundOf {
	return func(port uint16) mesh.Inbound {
		in := mesh.Inbound{Mode: mode, Policies: policies}
		in.DeclareHTTP([]uint16{port})
		return in
	}
}

// Who is refused by identity alone is told so in HTTP, and by whom; who is let in may say all that a direct connection
// would carry.
func TestRefusedCallersAreToldInHTTP(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("content-type") == "application/grpc" {
			w.Header().Set("Grpc-Status", "0")
		}
		fmt.Fprint(w, r.Proto, " ", r.Method, " ", r.RequestURI)
	})
	pod := startCalled(t, a, idCart, declaredHTTP(config.Permissive,
		mesh.Policy{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromShop}}},
		mesh.Policy{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "shop", ServiceAccount: "other"}}}}},
	), app.address)
	const (
		nobody = "mizzen: no AuthorizationPolicy allows this call\n"
		denied = "mizzen: an AuthorizationPolicy denies this call: rbac_access_denied_matched_policy[shop/deny]\n"
	)
	idFar := mesh.SPIFFEID(trustDomain, "bank", "client")
	for _, h2 := range []bool{false, true} {
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
		for id, c := range map[string]struct {
			status int
			body   string
		}{
			idClient: {200, proto + " GET /a//b?q=1"}, idOther: {403, denied}, idFar: {403, nobody}, "": {403, nobody},
		} {
			caller := callerOf(t, a, pod, id, h2)
			status, body, res := caller.do("GET", "/a//b?q=1")
			if status != c.status || body != c.body {
				t.Errorf("%s by %q: %d %q, want %d %q", proto, id, status, body, c.status, c.body)
			}
			if status == 403 && res.Header.Get(envoy.AnswerHeader) != `mizzen-inbound; error=http_request_denied; details="denied"` {
				t.Errorf("%s by %q: %v", proto, id, res.Header)
			}
			_, _, res = caller.do("POST", "/shop.Cart/Watch", "content-type", "application/grpc")
			want := map[int]string{200: "0", 403: "7"}[c.status]
			if res == nil || res.Header.Get("grpc-status") != want || (want == "7" && !strings.Contains(res.Header.Get("grpc-message"), "AuthorizationPolicy")) {
				t.Errorf("gRPC over %s by %q: %+v, want %s with the words", proto, id, res, want)
			}
		}
	}
	client := callerOf(t, a, pod, idClient, false)
	if status, body, _ := client.do("delete", "/x"); status != 200 || body != "HTTP/1.1 delete /x" {
		t.Errorf("a method of one's own: %d %q", status, body)
	}
	pod.logged(t, `"call refused"`, `"policy":"shop/deny"`, `"caller":"`+idOther+`"`, `"status":403`)
	if n := pod.counted(t, `envoy_http_rbac_denied{policy_action="deny",envoy_http_conn_manager_prefix="inbound_http"}`); n != 4 {
		t.Errorf("%d are counted, want 4", n)
	}
}

// What a port that is declared HTTP does not carry for callers that policies let in: nothing that is not HTTP. Tunnels go on.
func TestDeclaredHTTPIsStrict(t *testing.T) {
	a := newCA(t)
	app := serveBytes(t, func(conn net.Conn) {
		r, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\n\r\n"+r.Method+" "+r.RequestURI+"\n")
		_, _ = io.Copy(conn, conn)
	})
	pod := startCalled(t, a, idCart, declaredHTTP(config.Strict, mesh.Policy{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromShop}}}), app)
	for name, c := range map[string]struct{ id, says, want string }{
		"not HTTP":         {idClient, "PING\r\n\r\n", "HTTP/1.1 400"},
		"TLS":              {idClient, "\x16\x03\x01\x00\x05hello", "HTTP/1.1 400"},
		"a tunnel":         {idClient, "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "HTTP/1.1 200"},
		"a tunnel, denied": {mesh.SPIFFEID(trustDomain, "bank", "client"), "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", "HTTP/1.1 403"},
		"without identity": {"", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			conn := dial(t, pod.inbound.String())
			if c.id != "" {
				conn = tls.Client(conn, meshTLS(t, a, c.id))
			}
			fmt.Fprint(conn, c.says)
			line, _ := bufio.NewReader(conn).ReadString('\n')
			if !strings.HasPrefix(line, c.want) || (c.want == "" && line != "") {
				t.Errorf("got %q, want %q", line, c.want)
			}
		})
	}
}

// A sidecar that sends HTTP says so, and is told of a refusal in HTTP at whatever port; who does not say so is cut off. What it
// says changes nothing of who is let in.
func TestRefusedCallersAreToldWhereTheySpeakHTTP(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) })
	for name, policies := range map[string]func(port uint16) []mesh.Policy{
		"all ports": func(uint16) []mesh.Policy {
			return []mesh.Policy{{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromClient}}}}
		},
		"the port": func(port uint16) []mesh.Policy {
			return []mesh.Policy{{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "shop", ServiceAccount: "other"}}, Ports: []uint16{port}}}}}
		},
	} {
		for _, mode := range []config.MTLSMode{config.Permissive, config.Strict} {
			t.Run(name+", "+string(mode), func(t *testing.T) {
				pod := startCalled(t, a, idCart, func(port uint16) mesh.Inbound { return mesh.Inbound{Mode: mode, Policies: policies(port)} }, app.address)
				for _, c := range []struct {
					id     string
					http   bool
					status int
				}{{idClient, true, 200}, {idClient, false, 200}, {idOther, true, 403}, {idOther, false, 0}} {
					for _, h2 := range []bool{false, true} {
						caller := callerOf(t, a, pod, c.id, h2)
						if c.http {
							cfg := meshTLS(t, a, c.id)
							cfg.ServerName = envoy.SpeaksHTTP
							caller.client.Dial = func(network, address string) (net.Conn, error) { //nolint:staticcheck // as callerOf
								return tls.Dial(network, address, cfg)
							}
						}
						if status, body, _ := caller.do("GET", "/"); status != c.status {
							t.Errorf("%s, who says HTTP %t, HTTP/2 %t: %d %q, want %d", c.id, c.http, h2, status, body, c.status)
						}
					}
				}
			})
		}
	}
}
