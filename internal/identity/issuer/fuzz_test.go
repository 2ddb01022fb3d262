package issuer_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"net/http"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/issuer"
)

func mustParse(t *testing.T, bundle string) []*x509.Certificate {
	t.Helper()
	certs, err := ca.ParseCertificates([]byte(bundle))
	if err != nil {
		t.Fatal(err)
	}
	return certs
}

// Whatever a stranger sends: no crash, and what is accepted is within the rules.
func FuzzRequest(f *testing.F) {
	key := newKey(f, elliptic.P256())
	for _, csr := range []string{
		"", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n", csrFor(f, key, nil), csrFor(f, key, nil, webID),
		csrFor(f, key, func(r *x509.CertificateRequest) { r.DNSNames = []string{"a"} }, webID), csrFor(f, newKey(f, elliptic.P224()), nil),
	} {
		f.Add(body(f, csr))
	}
	f.Add("{")
	f.Add(`{"csr":1}`)
	f.Fuzz(func(t *testing.T, text string) {
		csr, err := issuer.ReadRequest(strings.NewReader(text))
		if err != nil {
			return
		}
		k, ok := csr.PublicKey.(*ecdsa.PublicKey)
		if !ok || k.Curve.Params().BitSize < 256 {
			t.Errorf("a weak key: %v", csr.PublicKey)
		}
		if len(csr.URIs) > 1 || len(csr.DNSNames)+len(csr.IPAddresses)+len(csr.EmailAddresses) > 0 {
			t.Errorf("names: %v %v", csr.URIs, csr.DNSNames)
		}
	})
}

func FuzzToken(f *testing.F) {
	for _, s := range []string{"", "Bearer", "Bearer ", "Bearer a.b.c", "bearer x", "Basic x", "Bearer a b", "Bearer \x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, value string) {
		token, err := issuer.ReadToken(http.Header{"Authorization": {value}})
		if err == nil && (token == "" || len(token) > 16<<10 || strings.ContainsAny(token, " \r\n\x00") || !strings.HasSuffix(value, token)) {
			t.Errorf("%q is the token %q", value, token)
		}
	})
}
