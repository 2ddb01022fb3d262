package api_test

import (
	"crypto/x509"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

func TestRootsAreOneText(t *testing.T) {
	var certs []*x509.Certificate
	for range 3 {
		a, err := ca.Generate(ca.Options{CommonName: "test", Now: time.Unix(1e9, 0), Lifetime: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		certs = append(certs, a.Certificate())
	}
	a, b, c := certs[0], certs[1], certs[2]
	want := api.Roots(a, b, c)
	if n := strings.Count(want, "BEGIN CERTIFICATE"); n != 3 {
		t.Fatalf("%d certificates, want 3", n)
	}
	if got := api.Roots(c, a, b, a, c); got != want {
		t.Errorf("order and doubles make another text:\n%s\n%s", got, want)
	}
	if api.Roots(a, b) == want || api.Version(api.Roots(a, b)) == api.Version(want) {
		t.Error("other roots have the same text or version")
	}
	if api.Roots() != "" {
		t.Error("no roots have a text")
	}
}
