package pki

import (
	"crypto/tls"
	"crypto/x509"
	"net/netip"
	"strings"
	"testing"
)

func TestIssuedCertificateVerifies(t *testing.T) {
	ca, err := NewCA(t.TempDir(), "ca")
	if err != nil {
		t.Fatal(err)
	}
	certPEM, keyPEM, err := ca.Issue(Leaf{
		File: "x", User: "system:node:n", Groups: []string{"system:nodes"},
		DNS: []string{"kubernetes"}, IPs: []netip.Addr{netip.MustParseAddr("10.1.2.3"), netip.MustParseAddr("fd00::1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(certPEM, keyPEM)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(ca.PEM())
	for _, name := range []string{"kubernetes", "10.1.2.3", "[fd00::1]"} {
		if _, err := pair.Leaf.Verify(x509.VerifyOptions{Roots: roots, DNSName: name}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := pair.Leaf.Subject.String(); got != "CN=system:node:n,O=system:nodes" {
		t.Error(got)
	}
	if k := string(Kubeconfig("https://x", ca.PEM(), certPEM, keyPEM)); !strings.Contains(k, "server: https://x\n") {
		t.Error(k)
	}
}
