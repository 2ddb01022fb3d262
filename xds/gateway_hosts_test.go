package xds_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// replace publishes a Gateway in place of what was published of it before.
func (g *gatewayOf) replace(before []envoy.Resource, gw mesh.Gateway) []envoy.Resource {
	g.t.Helper()
	now := envoy.GatewayResources(gw, g.cfg)
	if err := envoy.Check(now); err != nil {
		g.t.Fatal(err)
	}
	var ids []envoy.ID
	for _, r := range before {
		ids = append(ids, r.ID())
	}
	if _, err := g.store.Apply(envoy.Change{Set: now, Remove: ids}); err != nil {
		g.t.Fatal(err)
	}
	return now
}

// A route that needs another filter gives the listener another route configuration, whose virtual hosts come after it. No request of
// another route fails meanwhile, on a new connection or on one that is open.
func TestGatewayFiltersChange(t *testing.T) {
	g, gw := gatewayAnswering(t, netip.MustParseAddrPort("127.0.0.1:9"), under("/", to("one")))
	socket := gw.Sockets[0]
	url := fmt.Sprintf("http://127.0.0.1:%d/", socket.Bind)
	ctx, cancel := context.WithCancel(t.Context())
	var done sync.WaitGroup
	var calls, failed atomic.Int64
	for _, anew := range []bool{true, true, false} {
		done.Go(func() {
			client := &http.Client{Transport: &http.Transport{DisableKeepAlives: anew}}
			for ctx.Err() == nil {
				res, err := client.Get(url)
				if err == nil {
					res.Body.Close()
				}
				if calls.Add(1); err != nil || res.StatusCode != http.StatusOK {
					if failed.Add(1) == 1 {
						t.Errorf("a call failed: %v, %v", res, err)
					}
				}
			}
		})
	}
	all := gw.Sockets[0].Listeners[0].Hosts[0].Rules
	var published []envoy.Resource
	for i := range 60 {
		path := fmt.Sprintf("/%d", i)
		secret := under("/secret", &mesh.Action{Backends: to("two").Backends, Auth: &mesh.ExternalAuth{Target: targetOf("auth"), Path: path}})
		gw.Sockets[0].Listeners[0].Hosts[0].Rules = append([]mesh.Rule{under(path, to("two")), secret}, all...)
		published = g.replace(published, gw)
		eventually(t, "the new routes are there", func() bool {
			res, _ := ask(t, socket, "", "GET", "any.com", path)
			_, body := ask(t, socket, "", "GET", "any.com", path)
			return res.StatusCode == http.StatusOK && body[:3] == "two"
		})
	}
	cancel()
	done.Wait()
	t.Logf("%d calls, %d failed", calls.Load(), failed.Load())
}

// A host name comes, goes and comes back. What is gone is answered with 404, as are host names that were never there.
func TestGatewayHostsComeAndGo(t *testing.T) {
	g, gw := gatewayAnswering(t, netip.MustParseAddrPort("127.0.0.1:9"))
	socket := gw.Sockets[0]
	own := gw.Sockets[0].Listeners[0].Hosts
	published := envoy.GatewayResources(gw, g.cfg)
	answers := func(host string, want int, body string) {
		t.Helper()
		eventually(t, fmt.Sprintf("%s answers with %d %s", host, want, body), func() bool {
			res, got := ask(t, socket, "", "GET", host, "/")
			return res.StatusCode == want && strings.HasPrefix(got, body)
		})
	}
	for range 3 {
		gw.Sockets[0].Listeners[0].Hosts = slices.Concat(own, hosts("a.example.com", "one", "b.example.com", "two"))
		published = g.replace(published, gw)
		answers("a.example.com", http.StatusOK, "one")
		answers("b.example.com", http.StatusOK, "two")
		gw.Sockets[0].Listeners[0].Hosts = slices.Concat(own, hosts("b.example.com", "one"))
		published = g.replace(published, gw)
		answers("a.example.com", http.StatusNotFound, "")
		answers("b.example.com", http.StatusOK, "one")
		gw.Sockets[0].Listeners[0].Hosts = own
		published = g.replace(published, gw)
		answers("b.example.com", http.StatusNotFound, "")
	}
}
