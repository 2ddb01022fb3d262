package xds_test

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const marker = "nobody-may-read-this"

// HTTP/1.1, HTTP/2 and gRPC between two sidecars are on the wire in TLS 1.3.
func TestMTLSOfHTTP(t *testing.T) {
	a := newCA(t)
	app := startBackend(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Content-Type") == "application/grpc" {
			w.Header().Set("Grpc-Status", "0")
			return
		}
		fmt.Fprint(w, r.Proto, " ", r.Header.Get("X-Text"))
	})
	for _, mode := range config.MTLSModes {
		t.Run(string(mode), func(t *testing.T) {
			pod := startCalled(t, a, idCart, all(mode), app.address)
			f := calling(t, startSecrets(t, a, idClient), idCart)
			f.identities[pod.wire] = idCart
			f.set("cart", pod.wire)
			f.serve(nil)
			if res, body := f.get("/", "x-text", marker); res.StatusCode != 200 || body != "HTTP/1.1 "+marker {
				t.Errorf("HTTP/1.1: %d %s", res.StatusCode, body)
			}
			if status := callGRPC(t, f.address, ""); status != "0" {
				t.Errorf("gRPC: status %q", status)
			}
			client := &http.Transport{Protocols: new(http.Protocols)}
			client.Protocols.SetUnencryptedHTTP2(true)
			defer client.CloseIdleConnections()
			req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+f.address+"/", nil)
			if err != nil {
				t.Fatal(err)
			}
			req.Header.Set("x-text", marker)
			res, err := client.RoundTrip(req)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			if body, err := io.ReadAll(res.Body); err != nil || string(body) != "HTTP/2.0 "+marker {
				t.Errorf("HTTP/2: %s, %v", body, err)
			}
			pod.tap.isTLS13(t, marker)
		})
	}
}

// outboundBytes is the sidecar of a client that passes bytes to Service cart.
func (f *fleet) outboundBytes() {
	f.load("10.0.0.1:80")
	f.address = startListener(f.t, func(port uint32) *listenerv3.Listener { return bytesTo(f.t, port, "10.0.0.1:80") }, f.clusters...)
}

// Bytes too, and a server that speaks first is heard at once.
func TestMTLSOfBytes(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, greet))
	f := calling(t, startSecrets(t, a, idClient), idCart)
	f.identities[pod.wire] = idCart
	f.set("cart", pod.wire)
	f.outboundBytes()
	eventually(t, "an answer", func() bool { // the endpoints are there
		conn := dial(t, f.address)
		defer conn.Close()
		_, err := io.ReadFull(conn, make([]byte, len("welcome\n")))
		return err == nil
	})
	start := time.Now()
	conn := dial(t, f.address)
	if b, err := readN(conn, len("welcome\n")); err != nil || b != "welcome\n" {
		t.Fatalf("got %q, %v", b, err)
	}
	if d := time.Since(start); d > 500*time.Millisecond {
		t.Errorf("a server that speaks first was heard after %v", d)
	}
	fmt.Fprint(conn, marker)
	if b, err := readN(conn, len(marker)); err != nil || b != marker {
		t.Fatalf("got %q, %v", b, err)
	}
	pod.tap.isTLS13(t, marker)
	pod.tap.isTLS13(t, "welcome")
}

func readN(r io.Reader, n int) (string, error) {
	b := make([]byte, n)
	n, err := io.ReadFull(r, b)
	return string(b[:n]), err
}

// An endpoint without an identity gets plain text, beside those that have one.
func TestPlainEndpoints(t *testing.T) {
	a := newCA(t)
	plain := named(t, "plain")
	tap := startTap(t, plain.address)
	meshed := startCalled(t, a, idCart, all(config.Strict), named(t, "cart").address)
	other := startCalled(t, a, idOther, all(config.Strict), named(t, "other").address)
	f := calling(t, startSecrets(t, a, idClient), idCart, idOther)
	f.identities = map[netip.AddrPort]string{tap.address: mesh.PlainText, meshed.wire: idCart, other.wire: idOther}
	f.set("cart", tap.address, meshed.wire, other.wire)
	f.serve(nil)
	seen := map[string]int{}
	eventually(t, "an answer of each", func() bool {
		res, body := f.get("/", "x-text", marker)
		if res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
		seen[body]++
		return len(seen) == 3
	})
	if client, _ := tap.heard(); !strings.Contains(client, marker) {
		t.Errorf("no plain text to the plain endpoint: %.100q", client)
	}
	meshed.tap.isTLS13(t, marker)
	other.tap.isTLS13(t, marker)
}

// Who is not who he should be gets nothing, and nothing of what was meant for another.
func TestMTLSRefusals(t *testing.T) {
	a, foreign := newCA(t), newCA(t)
	for name, c := range map[string]struct {
		client, server func(*secrets)
		// expects is the identity of the endpoint, knows are those of the cluster.
		expects string
		knows   []string
	}{
		"another server than expected":     {expects: idOther, knows: []string{idOther}},
		"the cluster knows no such server": {expects: idCart, knows: []string{idOther}},
		"the cluster knows no server":      {expects: idCart},
		"a server of a foreign CA":         {server: func(s *secrets) { s.certificate(issue(t, foreign, idCart, 0, time.Hour)) }},
		"a server that has expired":        {server: func(s *secrets) { s.certificate(issue(t, a, idCart, 50*time.Minute, time.Minute)) }},
		"a client of a foreign CA":         {client: func(s *secrets) { s.certificate(issue(t, foreign, idClient, 0, time.Hour)) }},
		"a client that has expired":        {client: func(s *secrets) { s.certificate(issue(t, a, idClient, 50*time.Minute, time.Minute)) }},
		"a client of another trust domain": {client: func(s *secrets) {
			s.certificate(issue(t, a, "spiffe://cluster.local.example/ns/shop/sa/client", 0, time.Hour))
		}},
		"a client that is no workload":       {client: func(s *secrets) { s.certificate(issue(t, a, "https://cluster.local/ns/shop/sa/client", 0, time.Hour)) }},
		"a server with the name of a suffix": {server: func(s *secrets) { s.certificate(issue(t, a, idCart+"-2", 0, time.Hour)) }},
	} {
		t.Run(name, func(t *testing.T) {
			app := named(t, "app")
			client := startSecrets(t, a, idClient)
			if c.client != nil {
				c.client(client)
			}
			var changes []func(*secrets)
			if c.server != nil {
				changes = append(changes, c.server)
			}
			pod := startCalled(t, a, idCart, all(config.Permissive), app.address, changes...)
			if c.expects == "" {
				c.expects, c.knows = idCart, []string{idCart}
			}
			f := calling(t, client, c.knows...)
			f.identities[pod.wire] = c.expects
			f.set("cart", pod.wire)
			f.serve(nil)
			if res, body := f.get("/", "x-text", marker); res.StatusCode != 503 {
				t.Errorf("%d %s", res.StatusCode, body)
			} else {
				t.Logf("%s %s", res.Header.Get("x-flags"), body)
			}
			if n := app.calls.Load(); n > 0 {
				t.Errorf("%d calls reached the application", n)
			}
			if client, server := pod.tap.heard(); client == "" || strings.Contains(client+server, marker) {
				t.Errorf("on the wire: %.200q", client)
			}
		})
	}
}

// A server that is not who it should be costs no call while there is another: nothing has been sent to it.
func TestRefusedServerIsTriedElsewhere(t *testing.T) {
	a := newCA(t)
	wrong := startCalled(t, a, idOther, all(config.Strict), named(t, "wrong").address)
	right := startCalled(t, a, idCart, all(config.Strict), named(t, "right").address)
	f := calling(t, startSecrets(t, a, idClient), idCart)
	f.identities = map[netip.AddrPort]string{wrong.wire: idCart, right.wire: idCart}
	f.set("cart", wrong.wire, right.wire)
	f.serve(nil)
	for range 50 {
		if res, body := f.get("/"); res.StatusCode != 200 || body != "right" {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	if wrong.tap.connections() == 0 {
		t.Error("the wrong one was never tried")
	}
}
