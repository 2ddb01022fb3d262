package mtls

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/sds"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// addressesChange calls by address, while others come to answer there.
func addressesChange(t *testing.T, pods *world.Pods, cp *world.ControlPlane) {
	byIP := fmt.Sprintf("%s:%d", world.ServerIP, webPort)
	// Another address of the server's machine, where pods come and go.
	other := netip.AddrPortFrom(netip.MustParseAddr("10.88.0.4"), greeterPort)
	setLink(t, pods.Server, func(l netlink.Link) error {
		addr, err := netlink.ParseAddr(other.Addr().String() + "/24")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(l, addr)
	})
	l, err := pods.Server.Listen(other.String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	greetAll(l)
	set := func(identity string) {
		t.Helper()
		if err := cp.SetAddresses(identity, other.Addr()); err != nil {
			t.Fatal(err)
		}
	}

	// Nobody knows who answers at an address that was never called. The call waits until somebody does.
	set("")
	before := asked(t)
	greeted := make(chan error, 1)
	go func() {
		_, err := greet(other.String())
		greeted <- err
	}()
	await(t, "the address is asked for", func() bool { return asked(t) > before })
	if got, err := get(byIP); got != "server" || err != nil {
		t.Errorf("another address meanwhile: %q, %v", got, err)
	}
	select {
	case err := <-greeted:
		t.Fatalf("answered before it was known who does: %v", err)
	default:
	}
	set(mesh.PlainText) // the server, which speaks first, takes that, too
	if err := <-greeted; err != nil {
		t.Errorf("the call that has waited: %v", err)
	}

	// With strict, plain text is told from mTLS. A connection outlives what becomes of its address.
	mode := func(mode config.MTLSMode) {
		t.Helper()
		if err := cp.SetMode(mode); err != nil {
			t.Fatal(err)
		}
		await(t, "the mode holds", func() bool { return (outside(byIP) == nil) == (mode == config.Permissive) })
	}
	mode(config.Strict)
	defer mode(config.Permissive)
	set(idServer)
	await(t, "the pod is called as one of the mesh", func() bool { _, err := greet(other.String()); return err == nil })
	long, err := net.DialTimeout("tcp", other.String(), 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	defer long.Close()
	_ = long.SetDeadline(time.Now().Add(time.Minute))
	again := func(what string) {
		t.Helper()
		b := make([]byte, len("welcome\n"))
		if _, err := io.ReadFull(long, b); err != nil || string(b) != "welcome\n" {
			t.Fatalf("the first connection, when %s: %q, %v", what, b, err)
		}
		if _, err := io.WriteString(long, "welcome\n"); err != nil {
			t.Errorf("the first connection, when %s: %v", what, err)
		}
	}
	again("it is made")
	for i, step := range []struct {
		name, identity string
		served         bool
	}{
		{"somebody else answers", idClient, false},
		{"it is the server again", idServer, true},
		{"it is no pod's", mesh.PlainText, false},
		{"nobody knows", "", false}, // it stays as it was
		{"it is a pod's again", idServer, true},
	} {
		t.Run(fmt.Sprint(i, " ", step.name), func(t *testing.T) {
			set(step.identity)
			await(t, "it is called so", func() bool {
				_, err := greet(other.String())
				return (err == nil) == step.served
			})
			again(step.name)
		})
	}
}

// manyAddresses: over a sidecar's life it calls far more addresses than anybody remembers at a time. All are served, with
// mTLS and who is there known, and the sidecar is not larger for it.
func manyAddresses(t *testing.T, pods *world.Pods, cp *world.ControlPlane, client *world.Envoy) {
	const addresses, port = 10_000, 8090
	at := func(i int) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 91, byte(i / 250), byte(i%250 + 1)}), port)
	}
	err := pods.Server.Do(func() error { // on loopback all of them are the server's
		lo, err := netlink.LinkByName("lo")
		if err != nil {
			return err
		}
		addr, err := netlink.ParseAddr("10.91.0.1/16")
		if err != nil {
			return err
		}
		return netlink.AddrAdd(lo, addr)
	})
	if err != nil {
		t.Fatal(err)
	}
	l, err := pods.Server.Listen(":" + strconv.Itoa(port))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	greetAll(l)
	var all []netip.Addr
	for i := range addresses {
		all = append(all, at(i).Addr())
	}
	set := func(identity string, addrs ...netip.Addr) {
		t.Helper()
		if err := cp.SetAddresses(identity, addrs...); err != nil {
			t.Fatal(err)
		}
	}
	set(idServer, all...)
	defer set(world.NoPod, all...)
	if err := cp.SetMode(config.Strict); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cp.SetMode(config.Permissive) }()
	await(t, "it is called with mTLS", func() bool { _, err := greet(at(0).String()); return err == nil })
	plain := func() bool {
		c := inPlain(t, at(0).String())
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		_, err := io.ReadFull(c, make([]byte, len("welcome\n")))
		return err == nil
	}
	await(t, "plain text is refused", func() bool { return !plain() })

	var next, failed atomic.Int32
	callAll := func(from, to int) {
		t.Helper()
		next.Store(int32(from))
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for i := int(next.Add(1) - 1); i < to; i = int(next.Add(1) - 1) {
					if got, err := greet(at(i).String()); got != "welcome\n"+marker || err != nil {
						failed.Add(1)
						t.Errorf("address %d: %q, %v", i, got, err)
					}
				}
			})
		}
		wg.Wait()
		if failed.Load() > 0 {
			t.FailNow()
		}
	}
	callAll(0, 500) // what it needs for so many at once it has
	before, start := allocated(t, client), time.Now()
	callAll(500, addresses)
	took := time.Since(start)
	hosts := regexp.MustCompile(`(?m)^pods::10\.91\..*::cx_active::`)
	await(t, "what is not called any more is forgotten", func() bool {
		b, err := client.Get("/clusters")
		if err != nil {
			t.Fatal(err)
		}
		return !hosts.Match(b)
	})
	after := allocated(t, client)
	t.Logf("%d addresses in %s: %d kB before, %d kB after; %d are remembered", addresses-500, took.Round(time.Second), before>>10, after>>10, asked(t))
	if after > before+2<<20 {
		t.Errorf("%d kB more", (after-before)>>10)
	}
	if n := asked(t); n > sds.MaxAddresses {
		t.Errorf("%d addresses are asked for at a time", n)
	}
	// The first ones have been forgotten, and are asked for anew; what has changed is known.
	set(idClient, at(1).Addr())
	if _, err := greet(at(1).String()); err == nil {
		t.Error("somebody else is at an address, and is called all the same")
	}
	if _, err := greet(at(2).String()); err != nil {
		t.Error(err)
	}

	// More wait at a time than Envoy's own limit of 1,024 requests lets ask.
	if err := cp.SetMode(config.Permissive); err != nil {
		t.Fatal(err)
	}
	await(t, "plain text is served", plain)
	const waiting = 1_500
	set("", all[1000:1000+waiting]...)
	var served sync.WaitGroup
	for i := range waiting { // which nobody has called for a long time
		served.Go(func() {
			if _, err := greet(at(1000 + i).String()); err != nil {
				failed.Add(1)
				t.Errorf("address %d, which was waited for: %v", 1000+i, err)
			}
		})
	}
	await(t, "all of them wait", func() bool {
		b, err := client.Get("/stats?filter=^cluster.sds.upstream_rq_active$")
		if err != nil {
			t.Fatal(err)
		}
		_, n, _ := strings.Cut(strings.TrimSpace(string(b)), ": ")
		asking, err := strconv.Atoi(n)
		return err == nil && asking >= waiting
	})
	set(mesh.PlainText, all[1000:1000+waiting]...)
	served.Wait()
}

// allocated is the memory in bytes that Envoy has.
func allocated(t *testing.T, e *world.Envoy) int {
	t.Helper()
	b, err := e.Get("/memory")
	if err != nil {
		t.Fatal(err)
	}
	var memory struct {
		Allocated string `json:"allocated"`
	}
	if err := json.Unmarshal(b, &memory); err != nil {
		t.Fatal(err)
	}
	n, err := strconv.Atoi(memory.Allocated)
	if err != nil {
		t.Fatal(err)
	}
	return n
}
