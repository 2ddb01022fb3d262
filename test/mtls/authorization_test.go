package mtls

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// judgedPod: a pod whose ports are judged, one as HTTP and one as bytes: with real capture rules calls go on to where they were
// made to, who is refused is, and a change of policies fails no call that both allow.
func judgedPod(t *testing.T, pods *world.Pods, cp *world.ControlPlane) {
	for n, ip := range map[world.NS]string{pods.Server: world.ServerIP, pods.Client: world.ClientIP} {
		l, err := n.Listen(fmt.Sprintf("%s:%d", ip, webPort))
		if err != nil {
			t.Fatal(err)
		}
		app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			fmt.Fprint(w, ip, " ", r.Host, " ", r.Header.Get("x-forwarded-client-cert"))
		})}
		t.Cleanup(func() { app.Close() }) // with the connections that sidecars keep
		go func() { _ = app.Serve(l) }()
	}
	serveGreeter(t, pods.Server)
	address := netip.AddrPortFrom(netip.MustParseAddr(world.ServerIP), webPort)
	from := []mesh.Caller{{Namespace: "bench", ServiceAccount: "client"}}
	judged := func(methods ...string) mesh.Inbound {
		return mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}, Policies: []mesh.Policy{{Name: "bench/a", Rules: []mesh.CallRule{
			{From: from, Ports: []uint16{webPort}, HTTP: []mesh.HTTPMatch{{Methods: methods}}},
			{From: from, Ports: []uint16{greeterPort}},
		}}}}
	}
	byIP := address.String()
	set := func(in mesh.Inbound) {
		t.Helper()
		if err := cp.SetInbound(in); err != nil {
			t.Fatal(err)
		}
	}
	// This comes before the first call: connections that callers have already are renewed some seconds later.
	set(judged("GET"))
	await(t, "the policy holds", func() bool { err := outside(byIP); return err != nil && strings.Contains(err.Error(), "403") })
	await(t, "the first calls", func() bool {
		_, err := get(byIP)
		_, again := get(web)
		return err == nil && again == nil
	})
	for target, want := range map[string]string{web: world.ServerIP + " " + web, byIP: world.ServerIP + " " + byIP, self: world.ClientIP + " " + self} {
		got, err := get(target)
		if !strings.HasPrefix(got, want+" By=spiffe://") || !strings.HasSuffix(got, ";URI="+idClient) || err != nil {
			t.Errorf("%s: %q, %v, want %q and the caller", target, got, err, want)
		}
	}
	if got, err := greet(greeter); got != "welcome\n"+marker || err != nil {
		t.Errorf("bytes: %q, %v", got, err)
	}

	t.Run("under load", func(t *testing.T) {
		judgeUnderLoad(t, func(again bool) { set(judged(map[bool][]string{true: {"GET", "PUT"}, false: {"GET"}}[again]...)) })
	})

	set(judged("PUT"))
	await(t, "no GET is allowed", func() bool { _, err := get(web); return err != nil && strings.Contains(err.Error(), "403") })
	other := judged("PUT")
	other.Policies[0].Rules[1].From = []mesh.Caller{{Namespace: "bench", ServiceAccount: "other"}}
	set(other)
	await(t, "bytes are refused", func() bool { _, err := greet(greeter); return err != nil })

	// By the caller alone. The refusal comes through the caller's own sidecar, which says that it sends HTTP; calls to the
	// pod's address are bytes there, so the port has to be declared.
	for _, declared := range []bool{false, true} {
		callers := mesh.Inbound{Mode: config.Permissive, Policies: []mesh.Policy{{Name: "bench/a", Rules: []mesh.CallRule{{From: from}}}}}
		declare := func() {
			if callers.DeclareHTTP([]uint16{webPort}); !declared {
				callers.HTTP = nil
			}
			set(callers)
		}
		declare()
		await(t, "who is let in is served", func() bool { _, err := get(web); _, again := get(byIP); return err == nil && again == nil })
		t.Run(fmt.Sprintf("callers under load, declared %t", declared), func(t *testing.T) {
			judgeUnderLoad(t, func(again bool) {
				callers.Policies[0].Rules = []mesh.CallRule{{From: from}}
				if again {
					callers.Policies[0].Rules = append(callers.Policies[0].Rules, mesh.CallRule{From: []mesh.Caller{{Namespace: "bank"}}})
				}
				declare()
			})
		})
		callers.Policies = []mesh.Policy{{Name: "bench/a", Rules: other.Policies[0].Rules[1:]}}
		declare()
		for target, told := range map[string]bool{web: true, byIP: declared} {
			await(t, fmt.Sprintf("a refusal at %s, declared %t", target, declared), func() bool {
				fresh := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
				res, err := fresh.Get("http://" + target)
				if err != nil {
					return !told
				}
				defer res.Body.Close()
				body, err := io.ReadAll(res.Body)
				return told && err == nil && res.StatusCode == http.StatusForbidden && string(body) == "mizzen: no AuthorizationPolicy allows this call\n" &&
					strings.HasPrefix(res.Header.Get(envoy.AnswerHeader), "mizzen-inbound")
			})
		}
	}
}

// judgeUnderLoad changes policies that all allow the calls that are made, over connections that are kept.
func judgeUnderLoad(t *testing.T, change func(again bool)) {
	var made, failed atomic.Int32
	var wg sync.WaitGroup
	stop := make(chan struct{})
	for range 3 {
		wg.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-stop:
					return
				default:
				}
				made.Add(1)
				res, err := client.Get("http://" + web)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					res.Body.Close()
				}
				if err != nil || res.StatusCode != http.StatusOK {
					failed.Add(1)
					t.Errorf("a call fails: %+v, %v", res, err)
				}
			}
		})
	}
	for i := range 10 {
		change(i%2 == 0)
		at := made.Load()
		await(t, "calls", func() bool { return made.Load() > at+50 })
	}
	close(stop)
	wg.Wait()
	t.Logf("%d calls, %d failed", made.Load(), failed.Load())
}
