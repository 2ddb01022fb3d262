package spiffe_test

import (
	"crypto/x509"
	"net/url"
	"strings"
	"testing"

	"github.com/mizzen-mesh/mizzen/internal/spiffe"
)

func TestRoundTrip(t *testing.T) {
	id, err := spiffe.Of("cluster.local", "shop", "web.front")
	if err != nil {
		t.Fatal(err)
	}
	const uri = "spiffe://cluster.local/ns/shop/sa/web.front"
	if id.String() != uri || id.URL().String() != uri {
		t.Errorf("%s, %s, want %s", id, id.URL(), uri)
	}
	if got, err := spiffe.FromCertificate(&x509.Certificate{URIs: []*url.URL{id.URL()}}); got != id || err != nil {
		t.Errorf("%v, %v, want %v", got, err, id)
	}
}

func TestRefusals(t *testing.T) {
	for _, uri := range []string{
		"", "x", "cluster.local/ns/a/sa/b", "https://cluster.local/ns/a/sa/b", "spiffe:///ns/a/sa/b",
		"spiffe://cluster.local", "spiffe://cluster.local/", "spiffe://cluster.local/ns/a", "spiffe://cluster.local/ns/a/sa/b/c",
		"spiffe://cluster.local/sa/b/ns/a", "spiffe://cluster.local/ns//sa/b", "spiffe://cluster.local/ns/a/sa/",
		"spiffe://cluster.local/ns/a/sa/b/", "spiffe://cluster.local/ns/../sa/b", "spiffe://cluster.local/ns/a/sa/b?x", "spiffe://cluster.local/ns/a/sa/b#x",
		"spiffe://u@cluster.local/ns/a/sa/b", "spiffe://cluster.local:1/ns/a/sa/b", "spiffe://Cluster.local/ns/a/sa/b",
		"spiffe://cluster.local/ns/A/sa/b", "spiffe://cluster.local/ns/a.b/sa/b", "spiffe://cluster.local/ns/a/sa/_b", "spiffe://cluster.local/ns/a/sa/%62",
		"spiffe://cluster.local/ns/a/sa/" + strings.Repeat("b", 254),
	} {
		if id, err := spiffe.Parse(uri); err == nil {
			t.Errorf("%q is %v", uri, id)
		}
	}
	for _, td := range []string{"", "A", "a/b", "spiffe://a", "a:1", strings.Repeat("a", 256)} {
		if spiffe.ValidTrustDomain(td) == nil {
			t.Errorf("trust domain %q is allowed", td)
		}
		if _, err := spiffe.Of(td, "a", "b"); err == nil {
			t.Errorf("an ID of trust domain %q", td)
		}
	}
	a, b := &url.URL{Scheme: "spiffe", Host: "t", Path: "/ns/a/sa/b"}, &url.URL{Scheme: "spiffe", Host: "t", Path: "/ns/a/sa/c"}
	for _, uris := range [][]*url.URL{nil, {a, b}, {a, a}} {
		if id, err := spiffe.FromCertificate(&x509.Certificate{URIs: uris}); err == nil {
			t.Errorf("a certificate with %v is %v", uris, id)
		}
	}
}

// What is read is written the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"spiffe://cluster.local/ns/a/sa/b", "spiffe://t/ns/a/sa/b.c-d", "spiffe://t/ns/a", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, uri string) {
		if id, err := spiffe.Parse(uri); err == nil && (id.String() != uri || id.URL().String() != uri) {
			t.Errorf("%q is %q", uri, id)
		}
	})
}
