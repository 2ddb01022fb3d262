package mtls

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// inPlain dials from the client's pod past its sidecar, as somebody without one does.
func inPlain(t *testing.T, target string) net.Conn {
	t.Helper()
	runtime.LockOSThread() // the thread must live on: Envoy ends with the thread that has started it
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(config.ProxyUID); err != nil {
		t.Fatal(err)
	}
	defer func() { _, _ = unix.SetfsuidRetUid(0) }()
	c, err := net.DialTimeout("tcp", target, 10*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// configure changes the mesh configuration, as an upgrade of the control plane does.
func configure(t *testing.T, cp *world.ControlPlane, change func(*config.Mesh)) {
	t.Helper()
	if err := cp.Configure(change); err != nil {
		t.Fatal(err)
	}
}

// says sends a line over a connection that lives, and wants it back.
func says(c net.Conn) error {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, marker); err != nil {
		return err
	}
	b := make([]byte, len(marker))
	_, err := io.ReadFull(c, b)
	if err == nil && string(b) != marker {
		err = fmt.Errorf("got %q", b)
	}
	return err
}

// liveConnections: what strict refuses ends also where it lives, and nothing else does.
func liveConnections(t *testing.T, cp *world.ControlPlane, server *world.Envoy) {
	const drainTime = 3 * time.Second
	configure(t, cp, func(m *config.Mesh) { m.MTLS.DrainTime.Duration = drainTime })
	defer configure(t, cp, func(m *config.Mesh) { m.MTLS.DrainTime = config.Default().MTLS.DrainTime })
	byIP := fmt.Sprintf("%s:%d", world.ServerIP, greeterPort)
	read := fmt.Sprintf("%s:%d", world.ServerIP, webPort)
	forward := []uint16{webPort} // so that webPort is taken for HTTP
	from := []mesh.CallRule{{From: []mesh.Caller{{Namespace: "bench", ServiceAccount: "client"}}, Ports: []uint16{greeterPort}}}
	permissive := mesh.Inbound{Mode: config.Permissive, ForwardCert: forward}
	plainServed := func(t *testing.T) {
		t.Helper()
		if err := cp.SetInbound(permissive); err != nil {
			t.Fatal(err)
		}
		inUse(t, server, `"drainTime": "3s"`)
		await(t, "plain text is served", func() bool { return outside(read) == nil })
	}
	defer plainServed(t)
	denyOther := []mesh.Policy{{Name: "bench/a", Deny: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "bench", ServiceAccount: "other"}}}}}}
	for name, c := range map[string]struct {
		in mesh.Inbound
		// ends is for plain text, refused for the caller with mTLS.
		ends, refused bool
	}{
		"strict pod":                {mesh.Inbound{Mode: config.Strict, ForwardCert: forward}, true, false},
		"strict port":               {mesh.Inbound{Mode: config.Permissive, ForwardCert: forward, Ports: map[uint16]config.MTLSMode{greeterPort: config.Strict, webPort: config.Strict}}, true, false},
		"policy of callers":         {mesh.Inbound{Mode: config.Permissive, ForwardCert: forward, Policies: []mesh.Policy{{Name: "bench/a", Rules: from}}}, true, false},
		"the same in dry run":       {mesh.Inbound{Mode: config.Permissive, ForwardCert: forward, Policies: []mesh.Policy{{Name: "bench/a", Rules: from, DryRun: true}}}, false, false},
		"policy of callers, a Deny": {mesh.Inbound{Mode: config.Permissive, ForwardCert: forward, Policies: []mesh.Policy{{Name: "bench/a", Deny: true, Rules: from}}}, false, true},
		"a Deny, a declared port":   {mesh.Inbound{Mode: config.Permissive, ForwardCert: forward, HTTP: []uint16{slowPort}, Policies: denyOther}, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			plainServed(t)
			old := greeted(t, inPlain(t, byIP))
			meshed, err := net.Dial("tcp", greeter)
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { meshed.Close() })
			greeted(t, meshed)
			for what, c := range map[string]net.Conn{"in plain text": old, "with mTLS": meshed} {
				if err := says(c); err != nil {
					t.Fatalf("%s, before: %v", what, err)
				}
			}
			kept := inPlain(t, read)
			http1 := func() (*http.Response, error) { return overConnection(kept) }
			if _, err := http1(); err != nil {
				t.Fatal(err)
			}
			if err := cp.SetInbound(c.in); err != nil {
				t.Fatal(err)
			}
			if c.ends {
				start := time.Now()
				await(t, "the connection in plain text ends", func() bool { return says(old) != nil })
				t.Logf("ended after %s", time.Since(start).Round(time.Millisecond))
			} else {
				for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); {
					if err := says(old); err != nil {
						t.Fatalf("in plain text, still allowed: %v", err)
					}
				}
			}
			if c.refused {
				await(t, "the connection with mTLS ends", func() bool { return says(meshed) != nil })
			} else if err := says(meshed); err != nil {
				t.Errorf("with mTLS: %v", err)
			}
			if c.in.Mode == config.Strict || c.in.Ports[webPort] == config.Strict {
				res, err := http1()
				if err != nil || !res.Close {
					t.Errorf("HTTP over the connection that lives: %v, %v, want an answer with connection: close", res, err)
				}
				start := time.Now()
				await(t, "the connection ends that was told to", func() bool { _, err := http1(); return err != nil })
				ended := time.Since(start).Round(time.Millisecond)
				t.Logf("HTTP ended %s after it was told to", ended)
				if ended > drainTime+time.Second {
					t.Errorf("HTTP ended %s after it was told to, want %s", ended, drainTime)
				}
			}
		})
	}
	t.Run("a new version", func(t *testing.T) { newVersion(t, cp) })
}

// newVersion: what an upgrade of the control plane changes, be it the whole listener, ends no connection with mTLS, whoever
// reads it and however long it says nothing, and what is said of other ports ends none in plain text.
func newVersion(t *testing.T, cp *world.ControlPlane) {
	byIP, read := fmt.Sprintf("%s:%d", world.ServerIP, greeterPort), fmt.Sprintf("%s:%d", world.ServerIP, webPort)
	set := func(in mesh.Inbound) {
		t.Helper()
		if err := cp.SetInbound(in); err != nil {
			t.Fatal(err)
		}
	}
	meshed := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", greeter)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return greeted(t, c)
	}
	in := mesh.Inbound{
		Mode: config.Permissive, ForwardCert: []uint16{webPort},
		Policies: []mesh.Policy{{Name: "bench/a", Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "bench"}}, Ports: []uint16{greeterPort}}, {Ports: []uint16{webPort}}}}},
	}
	set(in)
	await(t, "the policy holds", func() bool { _, err := greet(greeter); return outside(read) == nil && err == nil })
	judged := meshed()

	// Something else is said of this port, and then of another.
	set(mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}})
	var plain net.Conn
	await(t, "the policy is gone", func() bool {
		plain = inPlain(t, byIP)
		_ = plain.SetDeadline(time.Now().Add(2 * time.Second))
		_, err := io.ReadFull(plain, make([]byte, len("welcome\n")))
		return err == nil
	})
	set(mesh.Inbound{
		Mode: config.Permissive, ForwardCert: []uint16{webPort},
		Policies: []mesh.Policy{{Name: "bench/b", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{webPort}, HTTP: []mesh.HTTPMatch{{Methods: []string{"GET"}}}}}}},
	})
	await(t, "the other policy holds", func() bool { return outside(read) != nil })
	for what, c := range map[string]net.Conn{"judged by a policy that is gone": judged, "to another port, in plain text": plain} {
		if err := says(c); err != nil {
			t.Errorf("a connection %s: %v", what, err)
		}
	}

	// Listener filters and socket options: Envoy makes the listener anew.
	unjudged := meshed()
	configure(t, cp, func(m *config.Mesh) {
		m.Detection.Timeout.Duration, m.Traffic.PeerTimeout.Duration = 1500*time.Millisecond, 20*time.Second
	})
	defer configure(t, cp, func(m *config.Mesh) {
		m.Detection.Timeout, m.Traffic.PeerTimeout = config.Default().Detection.Timeout, config.Default().Traffic.PeerTimeout
	})
	set(mesh.Inbound{Mode: config.Strict})
	await(t, "a connection in plain text ends", func() bool { return says(plain) != nil })
	for what, c := range map[string]net.Conn{"from two versions ago": judged, "from the version before": unjudged} {
		if err := says(c); err != nil {
			t.Errorf("a connection with mTLS %s: %v", what, err)
		}
	}
}

// greeted has heard the server's first word.
func greeted(t *testing.T, c net.Conn) net.Conn {
	t.Helper()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, make([]byte, len("welcome\n"))); err != nil {
		t.Fatal(err)
	}
	return c
}

// overConnection sends a request over a connection that is kept.
func overConnection(c net.Conn) (*http.Response, error) {
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(c, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		return nil, err
	}
	res, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	_, err = io.Copy(io.Discard, res.Body)
	return res, err
}
