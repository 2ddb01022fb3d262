package xds_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// fleetOf is Service cart with a meshed pod before each application.
func fleetOf(t *testing.T, change func(*mesh.Service), apps ...netip.AddrPort) (*fleet, []*called) {
	t.Helper()
	a := newCA(t)
	f := calling(t, startSecrets(t, a, idClient), idCart)
	change(f.services["cart"])
	var pods []*called
	var members []netip.AddrPort
	for _, app := range apps {
		pod := startCalled(t, a, idCart, all(config.Strict), app)
		pods, members, f.identities[pod.wire] = append(pods, pod), append(members, pod.wire), idCart
	}
	f.set("cart", members...)
	f.serve(nil)
	return f, pods
}

// Connections are kept with mTLS as they are without.
func TestConnectionsAreKept(t *testing.T) {
	f, pods := fleetOf(t, func(*mesh.Service) {}, named(t, "app").address)
	for range 50 {
		if res, body := f.get("/"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	if n := pods[0].tap.connections(); n != 1 {
		t.Errorf("%d connections for 50 requests in a row", n)
	}
}

// What fails is ejected, be it the application or its sidecar's identity.
func TestOutliersUnderMTLS(t *testing.T) {
	f, _ := fleetOf(t, func(svc *mesh.Service) { svc.Policy.Outliers = ejecting(50).Policy.Outliers }, named(t, "good").address, failing(t).address)
	failed := false
	eventually(t, "a failure", func() bool { res, _ := f.get("/"); failed = failed || res.StatusCode == 500; return failed })
	goodInARow(t, f, 50)
}

func TestHandshakesThatFailAreOutliers(t *testing.T) {
	f, pods := fleetOf(t, func(svc *mesh.Service) { svc.Policy.Outliers = ejecting(50).Policy.Outliers }, named(t, "good").address, named(t, "wrong").address)
	wrong := pods[1]
	wrong.certificate(issue(t, newCA(t), idCart, 0, time.Hour))
	wrong.taken(sds.Workload)
	eventually(t, "no more handshakes with the wrong one", func() bool {
		before := wrong.tap.connections()
		for range 50 {
			f.get("/")
		}
		return wrong.tap.connections() == before
	})
	goodInARow(t, f, 50)
}

// Calls with one hash go to one endpoint.
func TestHashesUnderMTLS(t *testing.T) {
	f, _ := fleetOf(t, func(svc *mesh.Service) {
		svc.Policy.LoadBalancing, svc.Policy.HashBy = config.Maglev, &config.HashBy{Source: config.ByHeader, Name: "x-user"}
	}, named(t, "a").address, named(t, "b").address, named(t, "c").address)
	seen := map[string]bool{}
	for user := range 20 {
		first := ""
		for range 5 {
			res, body := f.get("/", "X-User", fmt.Sprint(user))
			if res.StatusCode != 200 || (first != "" && body != first) {
				t.Fatalf("user %d: %d %s, before %s", user, res.StatusCode, body, first)
			}
			first = body
		}
		seen[first] = true
	}
	if len(seen) != 3 {
		t.Errorf("only %v were used", seen)
	}
}

// A retry that a Service asks for has a pool of its own, with mTLS as well.
func TestRetriesUnderMTLS(t *testing.T) {
	f, pods := fleetOf(t, func(svc *mesh.Service) {
		svc.Calls = config.Calls{RetryOn: []string{"5xx"}, RetryAttempts: new(int32(1))}
	}, named(t, "good").address, failing(t).address)
	for range 30 {
		if res, body := f.get("/", "x-text", marker); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	for _, pod := range pods {
		pod.tap.isTLS13(t, marker)
	}
}
