package xds_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// setZones makes the Service prefer callers' zones. The proxy is in the zone of here.
func (f *fleet) setZones(here, there []netip.AddrPort) {
	f.t.Helper()
	f.services["cart"].Near = true
	f.version++
	var endpoints []mesh.Endpoint
	for zone, members := range map[string][]netip.AddrPort{"here": here, "there": there} {
		for _, m := range members {
			endpoints = append(endpoints, mesh.Endpoint{Addr: m, ForZones: []string{zone}})
		}
	}
	f.setVariant("cart", "zone/here", endpoints)
}

func addressesOf(backends ...*backend) []netip.AddrPort {
	var out []netip.AddrPort
	for _, b := range backends {
		out = append(out, b.address)
	}
	return out
}

// While they can be reached, the endpoints of the caller's zone get all calls, each of them its part. Failed answers change nothing.
func TestCallsStayInTheZone(t *testing.T) {
	one, two, bad := named(t, "good"), named(t, "good"), failing(t)
	far := []*backend{named(t, "far"), named(t, "far"), named(t, "far")}
	f := newFleet(t, service("cart"))
	f.setZones(addressesOf(one, two, bad), addressesOf(far...))
	f.serve(nil)
	for range 300 {
		f.get("/")
	}
	for name, b := range map[string]*backend{"one": one, "two": two, "bad": bad} {
		if n := b.calls.Load(); n < 50 {
			t.Errorf("%s: %d of 300 calls", name, n)
		}
	}
	for _, b := range far {
		if n := b.calls.Load(); n != 0 {
			t.Errorf("%d calls left the zone", n)
		}
	}
}

// Where none of the zone can be reached calls leave it, and none fails: an attempt goes on before Envoy has ejected the endpoint.
func TestCallsLeaveTheZone(t *testing.T) {
	for name, here := range map[string][]netip.AddrPort{"one": {reserved(t)}, "two": {reserved(t), reserved(t)}} {
		t.Run(name, func(t *testing.T) {
			f := newFleet(t, service("cart"))
			f.setZones(here, addressesOf(named(t, "far"), named(t, "far"), named(t, "far")))
			f.serve(nil)
			for range 100 {
				if res, body := f.get("/"); res.StatusCode != 200 || body != "far" {
					t.Fatalf("%d %s", res.StatusCode, body)
				}
			}
		})
	}
}

// One that can be reached takes the calls of one that cannot before others do, but not all of them.
func TestCallsOfAnUnreachableEndpoint(t *testing.T) {
	one, far := named(t, "one"), named(t, "far")
	f := newFleet(t, service("cart"))
	f.setZones(append(addressesOf(one), reserved(t)), addressesOf(far, named(t, "far")))
	f.serve(nil)
	goodInARow(t, f, 20)
	for range 10 { // the one that refuses is ejected by then
		f.get("/")
	}
	one.calls.Store(0)
	for range 400 {
		if res, body := f.get("/"); res.StatusCode != 200 {
			t.Fatalf("%d %s", res.StatusCode, body)
		}
	}
	// Half of the zone's endpoints take 1.4 times their part.
	if n := one.calls.Load(); n < 230 || n > 330 {
		t.Errorf("%d of 400 calls, want some 280", n)
	}
}

func TestConnectionsLeaveTheZone(t *testing.T) {
	f := newFleet(t, service("cart"))
	f.setZones([]netip.AddrPort{reserved(t)}, []netip.AddrPort{greeting(t), greeting(t)})
	f.serveBytes()
	for i := range 200 {
		began := time.Now()
		if !f.greeted() {
			t.Errorf("connection %d fails after %s", i, time.Since(began))
		}
	}
}
