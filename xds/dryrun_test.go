package xds_test

import (
	"crypto/tls"
	"io"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// keep opens a connection of somebody and keeps it; id is empty for one without a certificate. It reports whether the
// application has answered.
func keep(t *testing.T, pod *called, cfg *tls.Config) (net.Conn, bool) {
	t.Helper()
	conn := dial(t, pod.inbound.String())
	if cfg != nil {
		conn = tls.Client(conn, cfg)
	}
	return conn, still(conn)
}

// still reports whether a connection passes bytes on.
func still(conn net.Conn) bool {
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := conn.Write([]byte("x")); err != nil {
		return false
	}
	_, err := io.ReadFull(conn, make([]byte, 1))
	return err == nil
}

// Before a policy is enforced its dry run says exactly who will be refused, also of connections that began before it and
// never end: what agents tell, judged by the policies as they are.
func TestDryRunTellsWhoWillBeRefused(t *testing.T) {
	allow := mesh.Policy{Name: "shop/allow", Rules: []mesh.CallRule{{From: fromClient}}}
	deny := mesh.Policy{Name: "shop/deny", Deny: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "shop", ServiceAccount: "other"}}}}}
	for name, c := range map[string]struct {
		policies []mesh.Policy
		refused  []string
	}{
		"one may":        {[]mesh.Policy{allow}, []string{"", idOther}},
		"one may not":    {[]mesh.Policy{deny}, []string{idOther}},
		"both":           {[]mesh.Policy{allow, deny}, []string{"", idOther}},
		"all with mTLS":  {[]mesh.Policy{{Name: "shop/all", Rules: []mesh.CallRule{{From: fromShop}}}}, []string{""}},
		"all":            {[]mesh.Policy{{Name: "shop/all", Rules: []mesh.CallRule{{}}}}, nil},
		"nobody":         {[]mesh.Policy{{Name: "shop/none"}}, []string{"", idClient, idOther}},
		"at other ports": {[]mesh.Policy{{Name: "shop/ports", Deny: true, Rules: []mesh.CallRule{{Ports: []uint16{1}}}}}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			a := newCA(t)
			before := startCalled(t, a, idCart, all(config.Permissive), serveBytes(t, echo)) // the policy comes later
			enforced := startCalled(t, a, idCart, judged(func(uint16) []mesh.Policy { return c.policies }), serveBytes(t, echo))
			var refused []string
			var kept []net.Conn
			for _, id := range []string{"", idClient, idOther} {
				var cfg *tls.Config
				if id != "" {
					cfg = meshTLS(t, a, id)
				}
				conn, ok := keep(t, before, cfg)
				if kept = append(kept, conn); !ok {
					t.Errorf("%q is refused without a policy", id)
				}
				if _, ok := keep(t, enforced, cfg); !ok {
					refused = append(refused, id)
				}
			}
			var said agentapi.PlainText
			eventually(t, "the agent hears of all", func() bool {
				said = before.plain.Snapshot()
				return len(said.MTLS) == 2 && len(said.Callers) == 1
			})
			var dry []mesh.Policy
			for _, p := range c.policies {
				p.DryRun = true
				dry = append(dry, p)
			}
			var would []string
			for _, seen := range slices.Concat(said.Callers, said.MTLS) {
				if seen.Live != 1 {
					t.Errorf("%q: %d are open, want 1", seen.ID, seen.Live)
				}
				who := mesh.Caller{}
				if seen.ID != "" {
					who.Namespace, who.ServiceAccount, _ = strings.Cut(strings.TrimPrefix(seen.ID, "spiffe://"+trustDomain+"/ns/"), "/sa/")
				}
				verdict, wouldBe := mesh.Authorize(dry, mesh.Call{Port: seen.Port, Caller: who})
				if !verdict.Allowed {
					t.Errorf("a dry run refuses %q", seen.ID)
				}
				if !wouldBe.Allowed {
					would = append(would, seen.ID)
				}
			}
			if !slices.Equal(would, refused) || !slices.Equal(refused, c.refused) {
				t.Errorf("dry run says %q, enforced refuses %q, want %q", would, refused, c.refused)
			}
			for _, conn := range kept {
				if !still(conn) {
					t.Error("a connection has ended")
				}
			}
		})
	}
}

// Who would be refused is counted by name while the connection lives, and logged.
func TestDryRunOfConnections(t *testing.T) {
	a := newCA(t)
	pod := startCalled(t, a, idCart, judged(func(uint16) []mesh.Policy {
		return []mesh.Policy{
			{Name: "shop/allow", DryRun: true, Rules: []mesh.CallRule{{From: fromClient}}},
			{Name: "shop/deny", Deny: true, DryRun: true, Rules: []mesh.CallRule{{From: []mesh.Caller{{Namespace: "bank"}}}}},
		}
	}), serveBytes(t, echo))
	for _, id := range []string{idClient, idOther, mesh.SPIFFEID(trustDomain, "bank", "till")} {
		conn, ok := keep(t, pod, meshTLS(t, a, id))
		if !ok {
			t.Errorf("%s is refused", id)
		}
		conn.Close()
	}
	pod.logged(t, `"call would be refused"`, `"caller":"`+idOther+`"`, "no AuthorizationPolicy allows it")
	pod.logged(t, `"call would be refused"`, `/ns/bank/sa/till"`, `"policy":"shop/deny"`)
	if strings.Contains(pod.envoy.log.String(), idClient) {
		t.Errorf("who may call is logged: %s", pod.envoy.log.String())
	}
	counted := func(labels ...string) bool {
		families, err := pod.metrics.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				text := m.String()
				if f.GetName() == "mizzen_agent_dry_run_refusals_total" && !slices.ContainsFunc(labels, func(l string) bool { return !strings.Contains(text, l) }) {
					return true
				}
			}
		}
		return false
	}
	eventually(t, "both are counted by name", func() bool {
		return counted(idOther) && counted("/ns/bank/sa/till", "shop/deny")
	})
	if counted(idClient) {
		t.Error("who may call is counted")
	}
}
