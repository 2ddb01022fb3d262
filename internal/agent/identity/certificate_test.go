package identity

import (
	"encoding/json"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

func TestFirstCertificate(t *testing.T) {
	server := authoritytest.Start(t, time.Hour)
	r := run(t, options(t, server.Addr, server.State().Roots...))
	r.awaitCertificate()
	if m := r.Missing(); m != "" {
		t.Errorf("missing: %s", m)
	}
	leaf := server.Signed()[0]
	if got := r.metric("mizzen_agent_certificate_expiry_timestamp_seconds", ""); got != float64(leaf.NotAfter.Unix()) {
		t.Errorf("expiry %v, want %v", got, leaf.NotAfter.Unix())
	}
	r.await("the request counted", func() bool {
		return r.metric("mizzen_agent_certificate_requests_total", resultSigned) == 1
	})
	if r.metric("mizzen_agent_trust_bundle_roots", api.Version(r.opts.Bundle)) != 1 {
		t.Error("the roots are not told")
	}
	for name, mode := range map[string]os.FileMode{"sds.sock": 0o600, "roots": 0o600} {
		if info, err := os.Stat(filepath.Join(r.opts.Dir, name)); err != nil || info.Mode().Perm() != mode {
			t.Errorf("%s: %v, %v; want mode %o", name, info, err, mode)
		}
	}
}

// A control plane that is away at the start is waited for, and named once.
func TestControlPlaneComesLater(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address, root := l.Addr().String(), authoritytest.NewRoot(t, "first")
	l.Close()
	r := run(t, options(t, address, root))
	r.await("three tries", func() bool { return r.metric("mizzen_agent_certificate_requests_total", resultUnavailable) >= 3 })
	if m := r.Missing(); !strings.Contains(m, address) || !strings.Contains(m, "connection refused") {
		t.Errorf("missing: %q, want the address and the reason", m)
	}
	if l, err = net.Listen("tcp", address); err != nil {
		t.Skip("the port was taken meanwhile")
	}
	authoritytest.StartOn(t, l, root, time.Hour)
	r.awaitCertificate()
	if n := strings.Count(r.log.String(), "no new certificate"); n != 1 {
		t.Errorf("said %d times, want once\n%s", n, r.log)
	}
}

// Away at renewal: the old certificate goes on, and its end is told in time.
func TestControlPlaneIsAwayAtRenewal(t *testing.T) {
	server := authoritytest.Start(t, 3*time.Second)
	r := run(t, options(t, server.Addr, server.State().Roots...))
	r.awaitCertificate()
	server.Change(func(s *authoritytest.State) {
		s.Answer = func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(http.StatusServiceUnavailable)
			return true
		}
	})
	held := r.current.Load()
	r.await("word of the end", func() bool { return strings.Contains(r.log.String(), "present=ended") })
	if r.current.Load() != held {
		t.Error("the certificate is gone")
	}
	for _, state := range []string{"valid", "ended"} {
		if n := strings.Count(r.log.String(), "present="+state); n != 1 {
			t.Errorf("%q is said %d times, want once\n%s", state, n, r.log)
		}
	}
	server.Change(func(s *authoritytest.State) { s.Answer = nil })
	r.await("a new certificate", func() bool { return r.current.Load() != held })
}

// The kubelet replaces the token.
func TestTokenIsReadEachTime(t *testing.T) {
	server := authoritytest.Start(t, time.Hour)
	o := options(t, server.Addr, server.State().Roots...)
	write(t, o.TokenFile, "an-old-token")
	r := run(t, o)
	r.await("a refusal", func() bool { return r.metric("mizzen_agent_certificate_requests_total", resultRefused) >= 1 })
	if err := os.Remove(o.TokenFile); err != nil {
		t.Fatal(err)
	}
	r.await("a missing token", func() bool { return r.metric("mizzen_agent_certificate_requests_total", resultToken) >= 1 })
	write(t, o.TokenFile, authoritytest.Token+"\n")
	r.awaitCertificate()
	for _, secret := range []string{"an-old-token", authoritytest.Token} {
		if strings.Contains(r.log.String(), secret) {
			t.Errorf("the log shows a token\n%s", r.log)
		}
	}
}

// Whatever the control plane answers, what works is kept, the reason is told, and another try follows.
func TestAnswersOfNoUse(t *testing.T) {
	answer := func(status int, body any) func(http.ResponseWriter, *http.Request) bool {
		return func(w http.ResponseWriter, _ *http.Request) bool {
			w.WriteHeader(status)
			if text, ok := body.(string); ok {
				_, _ = w.Write([]byte(text))
			} else {
				_ = json.NewEncoder(w).Encode(body)
			}
			return true
		}
	}
	other := authoritytest.NewRoot(t, "other")
	otherLeaf := func() string {
		leaf, err := other.Issue(ca.Leaf{CommonName: "x", Now: time.Now(), Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		return string(ca.EncodeCertificates(leaf.Leaf))
	}()
	roots := authoritytest.Bundle(other)
	for _, tt := range []struct {
		name   string
		change func(*authoritytest.State)
		result string
		want   string
	}{
		{"bad request", func(s *authoritytest.State) { s.Answer = answer(400, api.Error{Error: "weak key"}) }, resultRefused, "answered with 400: weak key"},
		{"bad token", func(s *authoritytest.State) { s.Answer = answer(401, api.Error{Error: "expired"}) }, resultRefused, "does the API server issue tokens for the audience mizzen.dev?"},
		{"other identity", func(s *authoritytest.State) { s.Answer = answer(403, api.Error{Error: "not this pod"}) }, resultRefused, "not this pod; the pod may not have this identity"},
		{"too many", func(s *authoritytest.State) { s.Answer = answer(429, "slow") }, resultUnavailable, "answered with 429: Too Many Requests"},
		{"cannot sign", func(s *authoritytest.State) { s.Answer = answer(503, api.Error{Error: "no CA"}) }, resultUnavailable, "answered with 503: no CA"},
		{"redirect", func(s *authoritytest.State) {
			s.Answer = func(w http.ResponseWriter, r *http.Request) bool {
				http.Redirect(w, r, "https://127.0.0.1:1/", http.StatusTemporaryRedirect)
				return true
			}
		}, resultUnavailable, "answered with 307"},
		{"no JSON", func(s *authoritytest.State) { s.Answer = answer(200, "hello") }, resultInvalid, "cannot use the control plane's answer: invalid character"},
		{"empty", func(s *authoritytest.State) { s.Answer = answer(200, api.Certificate{}) }, resultInvalid, "trust bundle: no certificate"},
		{"huge", func(s *authoritytest.State) { s.Answer = answer(200, strings.Repeat(" ", api.MaxBody+1)) }, resultInvalid, "more than 65536 bytes"},
		{"no certificate", func(s *authoritytest.State) { s.Answer = answer(200, api.Certificate{Bundle: roots}) }, resultInvalid, "certificate: none"},
		{"text for a certificate", func(s *authoritytest.State) {
			s.Answer = answer(200, api.Certificate{Certificate: "x", Bundle: roots})
		}, resultInvalid, "certificate: cannot be parsed"},
		{"another key", func(s *authoritytest.State) {
			s.Answer = answer(200, api.Certificate{Certificate: otherLeaf, Bundle: roots})
		}, resultInvalid, "is for another key"},
		{"a leaf in the bundle", func(s *authoritytest.State) {
			s.Answer = answer(200, api.Certificate{Certificate: otherLeaf, Bundle: otherLeaf})
		}, resultInvalid, `trust bundle: certificate "x" is not a CA`},
		{"another service account", func(s *authoritytest.State) { s.ID = "spiffe://cluster.local/ns/shop/sa/thief" }, resultInvalid, "want spiffe://<trust domain>/ns/shop/sa/cart"},
		{"not SPIFFE", func(s *authoritytest.State) { s.ID = "https://cluster.local/ns/shop/sa/cart" }, resultInvalid, "want spiffe://"},
		{"expired", func(s *authoritytest.State) { s.Life = -time.Minute }, resultInvalid, "certificate has expired"},
		{"a root that is not in its bundle", func(s *authoritytest.State) { s.Roots = []*ca.Authority{other} }, resultInvalid, "unknown authority"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := authoritytest.Start(t, time.Hour)
			o := options(t, server.Addr, server.State().Roots...)
			server.Change(tt.change)
			r := run(t, o)
			r.await("another try", func() bool { return r.metric("mizzen_agent_certificate_requests_total", tt.result) >= 2 })
			if m := r.Missing(); !strings.Contains(m, tt.want) {
				t.Errorf("missing: %q, want %q", m, tt.want)
			}
			if log := r.log.String(); strings.Count(log, "no new certificate") != 1 || strings.Contains(log, "PRIVATE KEY") {
				t.Errorf("want the reason once and no key:\n%s", log)
			}
			if b, err := os.ReadFile(o.Keep.File); !os.IsNotExist(err) {
				t.Errorf("roots were kept: %v\n%s", err, b)
			}
		})
	}
}

// A server whose certificate is not the mesh's, or not the control plane's, sees no token.
func TestOtherServersGetNothing(t *testing.T) {
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	root := authoritytest.NewRoot(t, "first")
	server := authoritytest.StartOn(t, l, root, time.Hour)
	_, port, err := net.SplitHostPort(server.Addr)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name, host string
		root       *ca.Authority
		want       string
	}{
		{"another root", "127.0.0.1", authoritytest.NewRoot(t, "other"), "this pod does not trust the root"},
		{"another name", "127.0.0.2", root, "certificate is valid for 127.0.0.1, not 127.0.0.2"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := run(t, options(t, net.JoinHostPort(tt.host, port), tt.root))
			r.await("a try", func() bool { return r.metric("mizzen_agent_certificate_requests_total", resultUnavailable) >= 1 })
			r.await("the reason", func() bool { return strings.Contains(r.Missing(), tt.want) })
			if server.Asked() > 0 {
				t.Error("the token was sent")
			}
		})
	}
}
