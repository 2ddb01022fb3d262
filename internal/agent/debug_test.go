package agent

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/proto"

	"github.com/mizzen-mesh/mizzen/config"
	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/agent/plaintext"
	"github.com/mizzen-mesh/mizzen/internal/agentapi"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/listentest"
	"github.com/mizzen-mesh/mizzen/xds/envoy"
	"github.com/mizzen-mesh/mizzen/xds/mesh"
)

// What the agent tells of identity and callers it tells loopback alone, whatever the request says.
func TestDebugIsForLoopback(t *testing.T) {
	a := &agent{settings: testSettings("127.0.0.1:1", "127.0.0.1"), plain: plaintext.New(plaintext.Options{Registerer: prometheus.NewRegistry()})}
	for from, want := range map[string]int{
		"127.0.0.1:4000": 200, "127.9.9.9:4000": 200, "[::1]:4000": 200, "[::ffff:127.0.0.1]:4000": 200,
		"10.0.0.4:4000": 403, "[fd00::1]:4000": 403, "[::ffff:10.0.0.4]:4000": 403, "169.254.0.1:80": 403, "": 403, "@": 403,
	} {
		for _, path := range []string{agentapi.PlainTextPath, agentapi.IdentityPath} {
			r := httptest.NewRequest(http.MethodGet, "http://127.0.0.1:15020"+path, nil)
			r.RemoteAddr = from
			r.Header.Set("X-Forwarded-For", "127.0.0.1")
			w := httptest.NewRecorder()
			a.handler().ServeHTTP(w, r)
			want := want
			if path == agentapi.IdentityPath && want == 200 {
				want = 404 // this one has none
			}
			if w.Code != want {
				t.Errorf("%s for %q: %d, want %d", path, from, w.Code, want)
			}
			if w.Code == 403 && (!strings.Contains(w.Body.String(), "kubectl port-forward") || strings.Contains(w.Body.String(), "since")) {
				t.Errorf("%s for %q: %s", path, from, w.Body)
			}
		}
	}
}

func (r *running) debug(path string, into any) {
	r.t.Helper()
	code, body := r.get(path)
	if code != 200 {
		r.t.Fatalf("%s: %d %s", path, code, body)
	}
	d := json.NewDecoder(strings.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		r.t.Fatal(err)
	}
}

// startInbound runs an agent whose Envoy has the control plane's own inbound listener, and gives where that is.
func startInbound(t *testing.T, authority *authoritytest.Server) (*running, netip.AddrPort) {
	t.Helper()
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ok") }))
	t.Cleanup(app.Close)
	toApp := staticCluster(netip.MustParseAddrPort(app.Listener.Addr().String()))
	toApp.Name, toApp.LoadAssignment.ClusterName = envoy.InboundCluster, envoy.InboundCluster
	cfg := config.Default()
	cfg.MTLS.TrustDomain = "cluster.local"
	at := netip.MustParseAddrPort(listentest.FreeAddress(t))
	inbound := proto.Clone(envoy.SecureInboundListeners(mesh.Inbound{Mode: config.Permissive}, cfg)[0].Message).(*listenerv3.Listener)
	inbound.Address = socketAddress(at)
	inbound.ListenerFilters = inbound.ListenerFilters[1:] // nobody has redirected the connection
	cp := startSecureControlPlane(t, authority)
	cp.send(clusterType, toApp)
	cp.send(listenerType, inbound)
	r := start(t, cp.addr, withIdentity(t, authority, authority.State().Roots...))
	r.awaitReady(200, "ready")
	return r, at
}

// With the real Envoy: who calls in plain text is shown while it is connected.
func TestPlainTextIsShown(t *testing.T) {
	r, at := startInbound(t, authoritytest.Start(t, time.Hour))
	var got agentapi.PlainText
	r.debug(agentapi.PlainTextPath, &got)
	if len(got.Callers) > 0 || time.Since(got.Since) > time.Minute {
		t.Errorf("%+v before the first call", got)
	}
	conn, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: cart\r\n\r\n")
	eventually(t, func() bool {
		r.debug(agentapi.PlainTextPath, &got)
		return len(got.Callers) > 0
	}, func() string { return "nobody is shown" })
	if c := got.Callers[0]; len(got.Callers) != 1 || c.Source != netip.MustParseAddr("127.0.0.1") || c.Port != at.Port() || c.Connections != 1 {
		t.Errorf("%+v", got)
	}
	if _, metrics := r.get("/metrics"); !strings.Contains(metrics, fmt.Sprintf(`mizzen_agent_plaintext_calls_total{kind="connection",port="%d"} 1`, at.Port())) {
		t.Error("the connection is not counted")
	}
}

// What is shown of the identity is what the control plane gave (TestKeyIsNotShown has what is not).
func TestIdentityIsShown(t *testing.T) {
	authority := authoritytest.Start(t, time.Hour)
	next := authoritytest.NewRoot(t, "second")
	authority.Change(func(s *authoritytest.State) { s.Roots = append(s.Roots, next) })
	r, _ := startInbound(t, authority)
	var got agentapi.Identity
	eventually(t, func() bool {
		got = agentapi.Identity{}
		r.debug(agentapi.IdentityPath, &got)
		return len(got.Roots) == 2 && !got.Certificate.Renewal.IsZero()
	}, func() string { return fmt.Sprintf("%+v", got) })
	signed := authority.Signed()[0]
	c := got.Certificate
	if c.ID != authoritytest.ID || c.Serial != fmt.Sprintf("%X", signed.SerialNumber) || c.Issuer != signed.Issuer.String() ||
		!c.NotAfter.Equal(signed.NotAfter) || !c.NotBefore.Equal(signed.NotBefore) {
		t.Errorf("%+v, want that of %v", c, signed.Subject)
	}
	if left := c.Renewal.Sub(c.NotAfter.Add(-time.Hour)); left < 25*time.Minute || left > 50*time.Minute {
		t.Errorf("renewal %s, certificate until %s", c.Renewal, c.NotAfter)
	}
	for i, root := range []*ca.Authority{authority.State().Signer, next} {
		sum := sha256.Sum256(root.Certificate().Raw)
		if want := hex.EncodeToString(sum[:]); got.Roots[i].Fingerprint != want && got.Roots[1-i].Fingerprint != want {
			t.Errorf("root %s is missing: %+v", want, got.Roots)
		}
	}
}

// Without a certificate the agent says why.
func TestIdentityThatIsMissing(t *testing.T) {
	authority := authoritytest.Start(t, time.Hour)
	authority.Change(func(s *authoritytest.State) {
		s.Answer = func(w http.ResponseWriter, _ *http.Request) bool {
			http.Error(w, `{"error": "no"}`, http.StatusServiceUnavailable)
			return true
		}
	})
	r := start(t, "127.0.0.1:1", withIdentity(t, authority, authority.State().Roots...))
	var got agentapi.Identity
	eventually(t, func() bool {
		if code, _ := r.get("/healthz"); code != 200 {
			return false
		}
		r.debug(agentapi.IdentityPath, &got)
		return strings.Contains(got.Trouble, "503") && got.Certificate == nil && len(got.Roots) == 1
	}, func() string { return fmt.Sprintf("%+v", got) })
}
