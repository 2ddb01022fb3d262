package identity

import (
	"bytes"
	"crypto"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/agent/identity/authoritytest"
	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// issue gives an answer as the control plane's, for a new key.
func issue(t testing.TB) (api.Certificate, crypto.Signer) {
	t.Helper()
	root := authoritytest.NewRoot(t, "root")
	id, err := url.Parse(authoritytest.ID)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := root.Issue(ca.Leaf{
		URIs: []*url.URL{id}, Now: time.Now(), Lifetime: time.Hour,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	return api.Certificate{Certificate: string(ca.EncodeCertificates(leaf.Leaf)), Bundle: authoritytest.Bundle(root)}, leaf.PrivateKey.(crypto.Signer)
}

func newCertificate(t testing.TB) *tls.Certificate {
	t.Helper()
	answer, key := issue(t)
	c, _, err := check(answer, key, "shop", "cart", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What passes the check is what Envoy takes: it can be encoded, and its roots verify it.
func FuzzCertificateAnswer(f *testing.F) {
	good, key := issue(f)
	body, err := json.Marshal(good)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(body)
	f.Add([]byte(`{"certificate": "", "bundle": ""}`))
	f.Add(bytes.Replace(body, []byte("BEGIN"), []byte("begin"), 1))
	f.Add([]byte(strings.Replace(string(body), good.Certificate[:40], "", 1)))
	f.Fuzz(func(t *testing.T, body []byte) {
		var answer api.Certificate
		if decode(bytes.NewReader(body), &answer) != nil {
			return
		}
		c, known, err := check(answer, key, "shop", "cart", time.Now())
		if err != nil {
			return
		}
		chain, pem, err := encode(c)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tls.X509KeyPair(chain, pem); err != nil {
			t.Errorf("accepted, and it is no pair: %v", err)
		}
		if len(known.certs) == 0 || known.pem == "" || verify(c, known, time.Now()) != nil {
			t.Error("accepted without a root of its own")
		}
	})
}

// The same roots are the same text, however often they are read and written.
func FuzzRoots(f *testing.F) {
	bundle := authoritytest.Bundle(authoritytest.NewRoot(f, "a"), authoritytest.NewRoot(f, "b"))
	f.Add(bundle)
	f.Add(bundle + bundle)
	f.Add(bundle[:200])
	f.Add("")
	f.Fuzz(func(t *testing.T, text string) {
		once, err := parseRoots(text)
		if err != nil {
			return
		}
		twice, err := parseRoots(once.pem)
		if err != nil || twice.pem != once.pem || twice.version != once.version || len(twice.certs) == 0 {
			t.Errorf("%q became %q, then %q: %v", text, once.pem, twice.pem, err)
		}
	})
}

// No answer makes the client panic, or shows more of it than fits a line of log.
func FuzzRefusal(f *testing.F) {
	f.Add(403, "5", `{"error": "no"}`)
	f.Add(503, "-1", `{"error": 1}`)
	f.Add(429, "99999999999999999999", "")
	f.Fuzz(func(t *testing.T, status int, after, body string) {
		w := httptest.NewRecorder()
		w.Body.WriteString(body)
		res := w.Result()
		res.StatusCode, res.Header = status, http.Header{"Retry-After": {after}}
		var err *refusedError
		if !errors.As(refusal(res), &err) {
			t.Fatal("no refusal")
		}
		if err.after < 0 || err.after > time.Minute || len(err.Error()) > maxError+100 {
			t.Errorf("%v, after %s", err, err.after)
		}
	})
}
