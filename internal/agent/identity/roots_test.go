package identity

import (
	"log/slog"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// The agent says that it has roots when Envoy does, and not before.
func TestRootsAreToldWhenEnvoyHasThem(t *testing.T) {
	for _, acknowledge := range []bool{true, false} {
		server := authoritytest.Start(t, time.Hour)
		r := run(t, options(t, server.Addr, server.State().Roots...))
		r.envoy(acknowledge)
		r.awaitCertificate()
		if acknowledge {
			r.await("acknowledged", server.Has)
		} else {
			r.await("a question", func() bool { return len(server.Haves()) > 0 })
		}
		both := append(slices.Clone(server.State().Roots), authoritytest.NewRoot(t, "second"))
		server.Change(func(s *authoritytest.State) { s.Roots = both })
		r.await("new roots", func() bool { return len(r.current.Load().roots.certs) == 2 })
		if acknowledge {
			r.await("acknowledged", server.Has)
			if n := len(server.Haves()); n > 10 {
				t.Errorf("%d questions: %v", n, server.Haves())
			}
			continue
		}
		if haves := slices.Compact(server.Haves()); len(haves) != 1 || haves[0] != "" {
			t.Errorf("the agent claims %v, and Envoy has acknowledged nothing", haves)
		}
	}
}

// Roots that do not include the certificate's own come into use together with a certificate of theirs.
func TestForgottenRootRenewsFirst(t *testing.T) {
	server := authoritytest.Start(t, time.Hour)
	r := run(t, options(t, server.Addr, server.State().Roots...))
	r.envoy(true)
	r.awaitCertificate()
	r.await("acknowledged", server.Has)
	old, next := server.State().Signer, authoritytest.NewRoot(t, "second")
	// Until it signs with the new root there is no way to follow.
	server.Change(func(s *authoritytest.State) { s.Roots = []*ca.Authority{next} })
	r.await("tries", func() bool { return server.Asked() >= 2 })
	if roots := r.current.Load().roots; roots.version != api.Version(authoritytest.Bundle(old)) {
		t.Error("the roots have changed without the certificate")
	}
	// The server's own certificate is of the new root too, which the agent does not know: both for a while.
	server.Change(func(s *authoritytest.State) { s.Roots = []*ca.Authority{old, next} })
	r.await("both roots", func() bool { return len(r.current.Load().roots.certs) == 2 })
	server.Change(func(s *authoritytest.State) { s.Signer, s.Roots = next, []*ca.Authority{next} })
	r.await("a certificate of the new root", func() bool {
		now := r.current.Load()
		return now.roots.version == api.Version(authoritytest.Bundle(next)) && now.certificate.Leaf.CheckSignatureFrom(next.Certificate()) == nil
	})
	r.await("acknowledged", server.Has)
}

func TestAnswersForRootsOfNoUse(t *testing.T) {
	for name, body := range map[string]string{
		"no JSON": "x", "no roots": `{}`, "text": `{"bundle": "x"}`, "an error": `{"error": "x"}`,
	} {
		t.Run(name, func(t *testing.T) {
			server := authoritytest.Start(t, time.Hour)
			server.Change(func(s *authoritytest.State) {
				s.AnswerBundle = func(w http.ResponseWriter, _ *http.Request) bool {
					_, _ = w.Write([]byte(body))
					return true
				}
			})
			r := run(t, options(t, server.Addr, server.State().Roots...))
			r.envoy(true)
			r.awaitCertificate()
			r.await("another question", func() bool { return len(server.Haves()) >= 2 })
			if n := len(r.current.Load().roots.certs); n != 1 {
				t.Errorf("%d roots, want the one of before", n)
			}
			if n := strings.Count(r.log.String(), "cannot ask for the mesh's roots"); n != 1 {
				t.Errorf("said %d times, want once\n%s", n, r.log)
			}
		})
	}
}

// A restarted container knows the roots that the mesh has by now.
func TestRestartKnowsTheNewestRoots(t *testing.T) {
	server := authoritytest.Start(t, time.Hour)
	first := server.State().Signer
	o := options(t, server.Addr, first)
	r := run(t, o)
	r.envoy(true)
	r.awaitCertificate()
	next := authoritytest.NewRoot(t, "second")
	server.Change(func(s *authoritytest.State) { s.Roots = []*ca.Authority{first, next} })
	r.await("both roots", func() bool { return len(r.current.Load().roots.certs) == 2 })
	r.stop()
	server.Change(func(s *authoritytest.State) { s.Signer, s.Roots = next, []*ca.Authority{next} })
	again := run(t, o) // with the roots of injection, which are too old
	again.awaitCertificate()
}

func TestStartRoots(t *testing.T) {
	given, kept := authoritytest.Bundle(authoritytest.NewRoot(t, "given")), authoritytest.Bundle(authoritytest.NewRoot(t, "kept"))
	for _, tt := range []struct{ name, given, kept, want, wantErr, wantLog string }{
		{"given", given, "", given, "", ""},
		{"with white space around", "\n " + given + "\n\n", "", given, "", ""},
		{"kept", given, kept, kept, "", ""},
		{"kept is damaged", given, kept[:100], given, "", "cannot use the roots"},
		{"kept is empty", given, " ", given, "", "cannot use the roots"},
		{"none", "", kept, "", "environment variable MIZZEN_TRUST_BUNDLE: trust bundle: no certificate", ""},
		{"text", "x", "", "", "MIZZEN_TRUST_BUNDLE: trust bundle: cannot be parsed", ""},
		{"too long", strings.Repeat("x", api.MaxBody+1), "", "", "65537 bytes, want at most 65536", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var log buffer
			o := Options{Bundle: tt.given, Keep: Keep{filepath.Join(t.TempDir(), "roots"), "a key"}, Log: slog.New(slog.NewTextHandler(&log, nil))}
			if tt.kept != "" {
				write(t, o.Keep.File, o.Keep.sealed(tt.kept))
			}
			got, err := startRoots(o)
			if (err != nil) != (tt.wantErr != "") || (err != nil && !strings.Contains(err.Error(), tt.wantErr)) {
				t.Fatalf("error %v, want %q", err, tt.wantErr)
			}
			if got.pem != tt.want || !strings.Contains(log.String(), tt.wantLog) || (tt.wantLog == "" && log.String() != "") {
				t.Errorf("got %q, log %s", got.pem, &log)
			}
		})
	}
}
