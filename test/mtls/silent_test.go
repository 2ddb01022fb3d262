package mtls

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"slices"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/test/internal/world"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

const silentPort = 9595

// silentConnections: what strict or a policy refuses ends within the drain time, also where nobody says anything, and nothing
// else does. Both ends learn of it.
func silentConnections(t *testing.T, pods *world.Pods, cp *world.ControlPlane, server *world.Envoy) {
	const drainTime = 3 * time.Second
	set := func(in mesh.Inbound) {
		t.Helper()
		if err := cp.SetInbound(in); err != nil {
			t.Fatal(err)
		}
	}
	permissive := mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}}
	configure(t, cp, func(m *config.Mesh) { m.MTLS.DrainTime.Duration = drainTime })
	defer func() {
		configure(t, cp, func(m *config.Mesh) { m.MTLS.DrainTime = config.Default().MTLS.DrainTime })
		set(permissive)
		inUse(t, server, `"drainTime": "10s"`, `"plain": true`)
	}()
	allow := func(name string, dryRun bool) []mesh.Policy {
		return []mesh.Policy{{Name: "bench/a", DryRun: dryRun, Rules: []mesh.CallRule{
			{From: []mesh.Caller{{Namespace: "bench", ServiceAccount: name}}, Ports: []uint16{greeterPort}}, {Ports: []uint16{webPort, silentPort}},
		}}}
	}
	const plain, http, meshed = "in plain text", "HTTP in plain text", "with mTLS"
	for name, c := range map[string]struct {
		in         mesh.Inbound
		ends, stay []string
	}{
		"strict pod":         {mesh.Inbound{Mode: config.Strict, ForwardCert: []uint16{webPort}}, []string{plain, http}, []string{meshed}},
		"strict port":        {mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}, Ports: map[uint16]config.MTLSMode{silentPort: config.Strict}}, []string{plain}, []string{http, meshed}},
		"policy of callers":  {mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}, Policies: allow("other", false)}, []string{meshed}, []string{http}},
		"one that is let in": {mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}, Policies: allow("client", false)}, nil, []string{http, meshed}},
		"in dry run":         {mesh.Inbound{Mode: config.Permissive, ForwardCert: []uint16{webPort}, Policies: allow("other", true)}, nil, []string{plain, http, meshed}},
	} {
		t.Run(name, func(t *testing.T) {
			set(permissive)
			inUse(t, server, `"drainTime": "3s"`, `"plain": true`)
			app, err := pods.Server.Listen(fmt.Sprintf("%s:%d", world.ServerIP, silentPort))
			if err != nil {
				t.Fatal(err)
			}
			defer app.Close()
			heard := make(chan error, 1) // the end, as the application sees it
			go func() {
				c, err := app.Accept()
				if err == nil {
					defer c.Close()
					_, _ = io.WriteString(c, "welcome\n")
					_, err = io.Copy(c, c)
				}
				heard <- err
			}()
			live := map[string]net.Conn{
				plain: greeted(t, inPlain(t, fmt.Sprintf("%s:%d", world.ServerIP, silentPort))),
				http:  inPlain(t, fmt.Sprintf("%s:%d", world.ServerIP, webPort)),
			}
			if _, err := overConnection(live[http]); err != nil {
				t.Fatal(err)
			}
			if live[meshed], err = net.Dial("tcp", greeter); err != nil {
				t.Fatal(err)
			}
			defer live[meshed].Close()
			greeted(t, live[meshed])

			set(c.in)
			start := time.Now()
			ended := map[string]bool{}
			for _, what := range c.ends {
				_ = live[what].SetReadDeadline(start.Add(4 * drainTime))
				n, err := live[what].Read(make([]byte, 1))
				took := time.Since(start).Round(time.Millisecond)
				ended[what] = true
				t.Logf("%s: %v after %s", what, err, took)
				if n > 0 || took > drainTime+time.Second {
					t.Errorf("%s: %d bytes, %v after %s, want an end within %s", what, n, err, took, drainTime)
				}
			}
			if ended[plain] {
				select {
				case err := <-heard:
					t.Logf("the application: %v after %s", err, time.Since(start).Round(time.Millisecond))
				case <-time.After(drainTime):
					t.Error("the application was not told")
				}
			}
			_ = live[plain].SetReadDeadline(time.Time{})
			time.Sleep(time.Until(start.Add(drainTime))) // what is tried is that so much time ends nothing
			for _, what := range c.stay {
				err := error(nil)
				if what == http {
					_, err = overConnection(live[what])
				} else {
					err = says(live[what])
				}
				if err != nil {
					t.Errorf("%s: %v, want that it goes on", what, err)
				}
			}
		})
	}
}

// inUse waits until the inbound listener says all of this, and knows no policy of the namespace: what the control plane
// publishes in steps comes in steps, and the caller goes on from the last.
func inUse(t *testing.T, e *world.Envoy, texts ...string) {
	t.Helper()
	await(t, fmt.Sprintf("the inbound listener says %v, and no policy", texts), func() bool {
		got, err := e.Get("/config_dump?resource=dynamic_listeners&name_regex=^inbound$")
		if err != nil || bytes.Contains(got, []byte("warming_state")) || bytes.Contains(got, []byte(`"`+world.Namespace+"/")) {
			return false
		}
		return !slices.ContainsFunc(texts, func(text string) bool { return !bytes.Contains(got, []byte(text)) })
	})
}
