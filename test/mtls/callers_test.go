package mtls

import (
	"fmt"
	"net"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// callersSeen holds that the application sees who has called, whatever way the call took and whether the sidecar looks at
// requests or passes bytes on.
func callersSeen(t *testing.T, cp *world.ControlPlane) {
	byIP := fmt.Sprintf("%s:%d", world.ServerIP, webPort)
	byIPv6 := fmt.Sprintf("[%s]:%d", world.ServerIPv6, webPort)
	outside := func(target string) (string, error) {
		answer, err := asOutsider(target, peerPath)
		_, body, _ := strings.Cut(answer, "\r\n\r\n")
		return body, err
	}
	requests := mesh.Policy{Name: "bench/requests", Rules: []mesh.CallRule{{Ports: []uint16{webPort}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}}}}}}
	for name, in := range map[string]mesh.Inbound{
		"bytes": {Mode: config.Permissive},
		"HTTP":  {Mode: config.Permissive, Policies: []mesh.Policy{requests}},
	} {
		t.Run(name, func(t *testing.T) {
			if err := cp.SetInbound(in); err != nil {
				t.Fatal(err)
			}
			await(t, "it holds", func() bool { // only who reads HTTP refuses a method
				answer, err := asOutsiderWith("PUT", byIP, "/")
				return err == nil && strings.HasPrefix(answer, "HTTP/1.1 403") == (name == "HTTP")
			})
			for what, c := range map[string]struct {
				call func() (string, error)
				want string
			}{
				"a Service":                   {func() (string, error) { return getPath(web, peerPath) }, world.ClientIP},
				"an address":                  {func() (string, error) { return getPath(byIP, peerPath) }, world.ClientIP},
				"its own Service":             {func() (string, error) { return getPath(self, peerPath) }, world.ClientIP},
				"without a sidecar":           {func() (string, error) { return outside(byIP) }, world.ClientIP},
				"an IPv6 address":             {func() (string, error) { return getPath(byIPv6, peerPath) }, world.ClientIPv6},
				"without a sidecar over IPv6": {func() (string, error) { return outside(byIPv6) }, world.ClientIPv6},
			} {
				t.Run(what, func(t *testing.T) {
					var wg sync.WaitGroup
					for range 20 {
						wg.Go(func() {
							if got, err := c.call(); got != c.want || err != nil {
								t.Errorf("the application saw %q, %v, want %s", got, err, c.want)
							}
						})
					}
					wg.Wait()
				})
			}
		})
	}
	if err := cp.SetMode(config.Permissive); err != nil {
		t.Fatal(err)
	}
}

// manyCallers holds that what the sidecar knows of its callers goes with them.
func manyCallers(t *testing.T, server *world.Envoy) {
	const callers = 300
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	range16, err := netlink.ParseAddr("10.90.0.1/16") // on loopback all of them are the client's
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.AddrAdd(lo, range16); err != nil {
		t.Fatal(err)
	}
	hosts := func() int {
		b, err := server.Get("/clusters")
		if err != nil {
			t.Fatal(err)
		}
		return len(regexp.MustCompile(`(?m)^inbound_callers::10\.90\..*::cx_active::`).FindAll(b, -1))
	}
	for i := range callers {
		ip := fmt.Sprintf("10.90.%d.%d", i/200, i%200+1)
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(ip)}, Timeout: 10 * time.Second}
		answer, err := asOutsiderBy(&d, "GET", fmt.Sprintf("%s:%d", world.ServerIP, webPort), peerPath)
		if err != nil || !strings.HasSuffix(answer, "\r\n\r\n"+ip) {
			t.Fatalf("%s: %q, %v", ip, answer, err)
		}
	}
	if hosts() == 0 {
		t.Error("none of them is known")
	}
	await(t, "the callers are forgotten", func() bool { return hosts() == 0 })
}
