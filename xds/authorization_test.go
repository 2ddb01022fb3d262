package xds_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
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
	pod.logged(t, `"call refused"`, `"policy":"shop/deny"`, `"path":"/open/not"`, `"caller":"`+idClient+`"`, `"status":403`, `"dryRun":false`)
	pod.logged(t, `"call refused"`, `"no AuthorizationPolicy allows it"`, `"caller":"`+idOther+`"`)
	if n := pod.counted(t, `envoy_http_rbac_denied{policy_action="deny",envoy_http_conn_manager_prefix="inbound_http"}`); n != 4 {
		t.Errorf("%d are counted, want 4", n)
	}
	if log := pod.envoy.log.String(); strings.Contains(log, `"/open/x?q=1"`) || strings.Contains(log, "q=1") {
		t.Errorf("a call that was served, or a query, is in the log:\n%s", log)
	}
}

// The log says where a connection comes from, whatever its requests claim, and a line has an end.
func TestRefusalsAreLoggedAsTheyAre(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/allow", Rules: []mesh.CallRule{{Ports: []uint16{port}, HTTP: []mesh.HTTPMatch{{Path: prefix("/open")}}}}}}
	}), startBackend(t, nil).address)
	long := "/closed/" + strings.Repeat("x", 16<<10)
	if status, _, _ := callerOf(t, a, pod, idClient, true).do("GET", long, "x-forwarded-for", "192.0.2.1"); status != http.StatusForbidden {
		t.Errorf("status %d", status)
	}
	pod.logged(t, `"call refused"`, `"path":"/closed/xxx`, `"address":"127.0.0.1"`)
	for line := range strings.Lines(pod.envoy.log.String()) {
		if strings.Contains(line, `"call refused"`) && len(line) > 4<<10 {
			t.Errorf("a line of %d bytes", len(line))
		}
	}
}

// logged waits for a line with all parts.
func (c *called) logged(t *testing.T, parts ...string) {
	t.Helper()
	eventually(t, fmt.Sprint("a line with ", parts, " in the log"), func() bool {
		for line := range strings.Lines(c.envoy.log.String()) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(line, p) }) {
				return true
			}
		}
		return false
	})
}

// counted is the value of a series of the sidecar's metrics; -1 if there is none.
func (c *called) counted(t *testing.T, series string) int {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", c.envoy.admin)
	}}}
	defer client.CloseIdleConnections()
	res, err := client.Get("http://envoy/stats/prometheus")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), series+" "); ok {
			n, err := strconv.Atoi(value)
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	return -1
}

// By the caller alone bytes are judged; who is refused is cut off, and nothing of what he says is heard.
func TestAuthorizationByCaller(t *testing.T) {
	a := newCA(t)
	allow := mesh.Policy{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromShop}}}
	denyOther := mesh.Policy{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "shop", ServiceAccount: "other"}}}}}
	idFar, idNear := mesh.SPIFFEID(trustDomain, "shop2", "client"), mesh.SPIFFEID(trustDomain, "shop", "client2")
	for name, c := range map[string]struct {
		policies []mesh.Policy
		onPort   bool
		served   []string
		refused  []string
	}{
		"nothing":         {nil, false, []string{idClient, idOther, idFar, ""}, nil},
		"allow":           {[]mesh.Policy{allow}, false, []string{idClient, idOther, idNear}, []string{idFar, ""}},
		"at the port":     {[]mesh.Policy{allow}, true, []string{idClient, idOther}, []string{idFar, ""}},
		"deny":            {[]mesh.Policy{denyOther}, false, []string{idClient, idFar, ""}, []string{idOther}},
		"both":            {[]mesh.Policy{allow, denyOther}, true, []string{idClient, idNear}, []string{idOther, idFar, ""}},
		"allow nobody":    {[]mesh.Policy{{Name: "shop/none"}}, false, nil, []string{idClient, ""}},
		"account":         {[]mesh.Policy{{Name: "shop/one", Rules: []mesh.CallRule{{From: fromClient}}}}, true, []string{idClient}, []string{idNear, idOther, idFar, ""}},
		"everybody":       {[]mesh.Policy{{Name: "shop/all", Rules: []mesh.CallRule{{}}}}, true, []string{idClient, ""}, nil},
		"another port":    {[]mesh.Policy{{Name: "shop/p", Rules: []mesh.CallRule{{Ports: []uint16{1}}}}}, false, nil, []string{idClient, ""}},
		"deny everybody":  {[]mesh.Policy{{Name: "shop/p", Deny: true, Rules: []mesh.CallRule{{}}}}, true, nil, []string{idClient, ""}},
		"deny elsewhere":  {[]mesh.Policy{{Name: "shop/p", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{1}}}}}, false, []string{idClient, ""}, nil},
		"dry run, denies": {[]mesh.Policy{{Name: "shop/p", Deny: true, DryRun: true, Rules: []mesh.CallRule{{}}}}, true, []string{idClient, ""}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			var heard atomic.Int32
			app := serveBytes(t, func(conn net.Conn) {
				b := make([]byte, 1)
				if _, err := conn.Read(b); err == nil {
					heard.Add(1)
					_, _ = conn.Write(b)
				}
			})
			pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
				policies := slices.Clone(c.policies)
				for i := range policies {
					policies[i].Rules = slices.Clone(policies[i].Rules)
					for j := range policies[i].Rules {
						if c.onPort {
							policies[i].Rules[j].Ports = []uint16{port}
						}
					}
				}
				return policies
			}), app)
			for _, id := range append(slices.Clone(c.served), c.refused...) {
				served := slices.Contains(c.served, id)
				if err := say(t, a, pod, id); (err == nil) != served {
					t.Errorf("%q: served %t, want %t: %v", id, err == nil, served, err)
				}
			}
			if n := int(heard.Load()); n != len(c.served) {
				t.Errorf("the application has heard %d callers, want %d", n, len(c.served))
			}
			if name == "both" {
				for action, want := range map[string]int{"deny": 1, "allow": 2} {
					if n := pod.counted(t, fmt.Sprintf(`envoy_inbound_tcp_rbac_denied{policy_action="%s"}`, action)); n != want {
						t.Errorf("%s: %d are counted, want %d", action, n, want)
					}
				}
			}
			if len(c.refused) > 0 {
				pod.logged(t, `"call refused"`, fmt.Sprintf(`"port":%d`, pod.inbound.Port()))
			}
			if c.policies != nil && c.policies[0].DryRun {
				pod.logged(t, `"call would be refused"`, `"dryRun":true`, `"policy":"shop/p"`, idClient)
				if n := pod.counted(t, `envoy_inbound_tcp_rbac_shadow_denied{policy_action="deny"}`); n != 2 {
					t.Errorf("%d are counted, want 2", n)
				}
			}
		})
	}
}

// say sends a byte and wants it back.
func say(t *testing.T, a *ca.Authority, pod *called, id string) error {
	t.Helper()
	conn := dial(t, pod.inbound.String())
	if id != "" {
		conn = tls.Client(conn, meshTLS(t, a, id))
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("x")); err != nil {
		return err
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err
}

// Who is refused without an identity does not hear a server that speaks first.
func TestRefusedHearNoGreeting(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, judged(func(uint16) []mesh.Policy {
		return []mesh.Policy{{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromClient}}}}
	}), serveBytes(t, greet))
	conn := dial(t, pod.inbound.String())
	_ = conn.SetDeadline(time.Now().Add(2 * time.Second)) // the time of detection is over by then
	if got, _ := io.ReadAll(conn); len(got) > 0 {
		t.Errorf("heard %q", got)
	}
	let := tls.Client(dial(t, pod.inbound.String()), meshTLS(t, a, idClient))
	if got, err := readN(let, len("welcome\n")); got != "welcome\n" {
		t.Errorf("who is let in: %q, %v", got, err)
	}
}

// A policy in dry run refuses nothing; who would be refused is logged and counted once.
func TestDryRunOfRequests(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, judged(func(port uint16) []mesh.Policy {
		ports := []uint16{port}
		return []mesh.Policy{
			{Name: "shop/allow", DryRun: true, Rules: []mesh.CallRule{{From: fromClient, Ports: ports, HTTP: []mesh.HTTPMatch{{Path: prefix("/open")}}}}},
			{Name: "shop/deny", Deny: true, DryRun: true, Rules: []mesh.CallRule{{Ports: ports, HTTP: []mesh.HTTPMatch{{Methods: []string{"DELETE"}}}}}},
		}
	}), named(t, "app").address)
	client := callerOf(t, a, pod, idClient, true)
	for _, call := range []string{"GET /open", "GET /closed", "DELETE /open", "DELETE /closed"} {
		method, path, _ := strings.Cut(call, " ")
		if status, body, _ := client.do(method, path); status != 200 {
			t.Errorf("%s: %d %s", call, status, body)
		}
	}
	pod.logged(t, `"call would be refused"`, `"dryRun":true`, `"path":"/closed"`, `"method":"GET"`, `"no AuthorizationPolicy allows it"`, `"status":200`)
	pod.logged(t, `"call would be refused"`, `"policy":"shop/deny"`, `"path":"/open"`)
	pod.logged(t, `"call would be refused"`, `"policy":"shop/deny"`, `"path":"/closed"`)
	if n := strings.Count(pod.envoy.log.String(), "would be refused"); n != 3 {
		t.Errorf("%d lines, want 3:\n%s", n, pod.envoy.log.String())
	}
	eventually(t, "the agent knows who, by which policy", func() bool {
		would := pod.plain.Snapshot().WouldRefuse
		return len(would) == 2 && would[0].ID == idClient && would[0].Policy == "" && would[0].Count == 1 && would[1].Policy == "shop/deny" && would[1].Count == 2
	})
	for action, want := range map[string]int{"deny": 2, "allow": 2} {
		if n := pod.counted(t, fmt.Sprintf(`envoy_http_rbac_shadow_denied{policy_action="%s",envoy_http_conn_manager_prefix="inbound_http"}`, action)); n != want {
			t.Errorf("%s: %d, want %d", action, n, want)
		}
	}
}
