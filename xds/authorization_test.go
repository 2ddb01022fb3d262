package xds_test

import (
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

var (
	fromClient = []mesh.Caller{{Namespace: "shop", ServiceAccount: "client"}}
	fromShop   = []mesh.Caller{{Namespace: "shop"}}
)

func prefix(path string) *mesh.TextMatch { return &mesh.TextMatch{Type: mesh.Prefix, Value: path} }

// judged is a pod with policies at the port of its application.
func judged(policies func(port uint16) []mesh.Policy) inboundOf {
	return func(port uint16) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, Policies: policies(port)}
	}
}

// caller makes requests of somebody, over connections of its own; id is empty for one without a certificate.
type caller struct {
	t      *testing.T
	pod    *called
	client *http.Transport
}

func callerOf(t *testing.T, a *ca.Authority, pod *called, id string, h2 bool) *caller {
	t.Helper()
	c := &caller{t: t, pod: pod, client: &http.Transport{Protocols: new(http.Protocols)}}
	if h2 {
		c.client.Protocols.SetUnencryptedHTTP2(true)
	} else {
		c.client.Protocols.SetHTTP1(true)
	}
	if id != "" {
		cfg := meshTLS(t, a, id)
		c.client.Dial = func(network, address string) (net.Conn, error) { //nolint:staticcheck // as plain text: TLS is the sidecars'
			return tls.Dial(network, address, cfg)
		}
	}
	t.Cleanup(c.client.CloseIdleConnections)
	return c
}

// do gives the status, the body and the answer; a status of 0 stands for a connection that was closed.
func (c *caller) do(method, path string, headers ...string) (int, string, *http.Response) {
	c.t.Helper()
	req, err := http.NewRequestWithContext(c.t.Context(), method, "http://"+c.pod.inbound.String(), nil)
	if err != nil {
		c.t.Fatal(err)
	}
	req.URL.Opaque = path
	for i := 0; i < len(headers); i += 2 {
		req.Header.Add(headers[i], headers[i+1])
	}
	res, err := c.client.RoundTrip(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	return res.StatusCode, string(body), res
}

func TestAuthorizationByRequest(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("content-type") == "application/grpc" {
			w.Header().Set("Grpc-Status", "0")
		}
		fmt.Fprint(w, r.Proto, " ", r.RequestURI, " ", r.Header["X-Forwarded-Proto"])
	})
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{
			{Name: "shop/allow", Rules: []mesh.CallRule{{
				From: fromClient, Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}, Path: prefix("/open")}},
			}, {From: fromClient, Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Path: prefix("/shop.Cart")}}}}},
			{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Path: prefix("/open/not")}}}}},
		}
	}), app.address)
	for _, h2 := range []bool{false, true} {
		client, other, plain := callerOf(t, a, pod, idClient, h2), callerOf(t, a, pod, idOther, h2), callerOf(t, a, pod, "", h2)
		proto := map[bool]string{false: "HTTP/1.1", true: "HTTP/2.0"}[h2]
		for _, c := range []struct {
			by           *caller
			method, path string
			status       int
			body         string
		}{
			{client, "GET", "/open/x?q=1", 200, proto + " /open/x?q=1 [http]"},
			{client, "POST", "/open", 403, "mizzen: no AuthorizationPolicy allows this call\n"},
			{client, "GET", "/opened", 403, "no AuthorizationPolicy"},
			{client, "GET", "/open/not", 403, "mizzen: an AuthorizationPolicy denies this call: rbac_access_denied_matched_policy[shop/deny]\n"},
			{client, "GET", "/open//x", 403, "matched_policy[shop/deny]"},
			{other, "GET", "/open/x", 403, "no AuthorizationPolicy"},
			{plain, "GET", "/open/x", 403, "no AuthorizationPolicy"},
		} {
			status, body, _ := c.by.do(c.method, c.path)
			if status != c.status || !strings.Contains(body, c.body) {
				t.Errorf("HTTP/2 %t, %s %s: %d %q, want %d %q", h2, c.method, c.path, status, body, c.status, c.body)
			}
		}
	}
	client := callerOf(t, a, pod, idClient, true)
	if _, _, res := client.do("POST", "/shop.Cart/Watch", "content-type", "application/grpc"); res == nil || res.Header.Get("grpc-status") != "0" {
		t.Errorf("gRPC: %+v", res)
	}
	other := callerOf(t, a, pod, idOther, true)
	if _, _, res := other.do("POST", "/shop.Cart/Watch", "content-type", "application/grpc"); res == nil ||
		res.Header.Get("grpc-status") != "7" || !strings.Contains(res.Header.Get("grpc-message"), "no AuthorizationPolicy") {
		t.Errorf("gRPC: %+v, want PERMISSION_DENIED with the reason", res)
	}
	eventually(t, "a line in the log", func() bool { return strings.Contains(pod.envoy.log.String(), `"policy":"shop/deny"`) })
	time.Sleep(100 * time.Millisecond)
	t.Log(pod.envoy.log.String())
}
