package feature

import (
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// TestMirrorsComeAndGo: a Service that a sidecar already calls gets a rule that mirrors, to a Service that nobody calls
// and of another namespace, and loses it again.
func TestMirrorsComeAndGo(t *testing.T) { bothWays(t, testMirrorsComeAndGo) }

func testMirrorsComeAndGo(t *testing.T, o option) {
	const backend, mirror, url = "10.244.0.5:8081", "10.244.0.6:8081", "http://10.96.0.10/"
	httpBackend(t, backend)
	var copies atomic.Int32
	serveHTTP(t, mirror, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { copies.Add(1) }))
	target := func(namespace, name string) mesh.Target {
		return mesh.Target{Service: mesh.Key{Namespace: namespace, Name: name}, Port: 80, Families: []mesh.Family{mesh.IPv4}}
	}
	rules := func(mirrors ...mesh.Mirror) map[uint16]mesh.PortRules {
		return map[uint16]mesh.PortRules{80: {Producer: []mesh.Rule{{
			Match:  mesh.Match{Path: mesh.TextMatch{Type: mesh.Prefix, Value: "/"}},
			Action: &mesh.Action{Backends: []mesh.Backend{{Target: target("shop", "web"), Weight: 1, Valid: true}}, Mirrors: mirrors},
		}}}}
	}
	web := service{ips: []string{"10.96.0.10"}, port: port("http", 80), endpoints: []string{backend}}
	w := newWorld(t, map[string]service{
		"web":  web,
		"copy": {namespace: "other", ips: []string{"10.96.0.11"}, port: port("http", 80), endpoints: []string{mirror}},
	}, o)
	call := func() {
		status, body, err := get(client(t, false), url)
		if err != nil || status != http.StatusOK || body != backend {
			t.Fatalf("status %d, body %q, error %v", status, body, err)
		}
	}
	for range 2 {
		call()
		web.rules = rules(mesh.Mirror{Target: target("other", "copy"), PerMillion: 1_000_000})
		w.change(map[string]service{"web": web})
		before := copies.Load()
		w.await("requests are mirrored", func() error {
			if call(); copies.Load() == before {
				return errors.New("no copy")
			}
			return nil
		})
		web.rules = rules()
		w.change(map[string]service{"web": web})
		quiet := 0
		w.await("they are mirrored no more", func() error {
			before := copies.Load()
			if call(); copies.Load() != before {
				quiet = 0
			} else if quiet++; quiet >= 50 {
				return nil
			}
			return fmt.Errorf("%d calls without a copy", quiet)
		})
	}
}
