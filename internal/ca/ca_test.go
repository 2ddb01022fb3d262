package ca_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"math/big"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

var epoch = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func generate(t *testing.T) *ca.Authority {
	t.Helper()
	a, err := ca.Generate(ca.Options{CommonName: "test", Now: epoch, Lifetime: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	return a
}

func keyPEM(t *testing.T, a *ca.Authority) []byte {
	t.Helper()
	b, err := a.KeyPEM()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestRoundTrip(t *testing.T) {
	a := generate(t)
	b, err := ca.Load(a.CertPEM(), keyPEM(t, a))
	if err != nil {
		t.Fatal(err)
	}
	if !a.Equal(b) {
		t.Error("loaded authority differs from the saved one")
	}
	if a.Equal(generate(t)) {
		t.Error("two authorities are the same")
	}
}

func TestLoadRefuses(t *testing.T) {
	a, other := generate(t), generate(t)
	leaf, err := a.Issue(ca.Leaf{CommonName: "leaf", Now: epoch, Lifetime: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	leafKey, err := ca.EncodeKey(leaf.PrivateKey.(*ecdsa.PrivateKey))
	if err != nil {
		t.Fatal(err)
	}
	good, key := a.CertPEM(), keyPEM(t, a)
	tests := []struct {
		name      string
		cert, key []byte
		want      error
	}{
		{"empty certificate", nil, key, ca.ErrUnparsable},
		{"certificate is text", []byte("hello"), key, ca.ErrUnparsable},
		{"certificate is cut", good[:len(good)/2], key, ca.ErrUnparsable},
		{"certificate is a key", key, key, ca.ErrUnparsable},
		{"two certificates", ca.EncodeCertificates(a.Certificate(), other.Certificate()), key, ca.ErrUnparsable},
		{"trailing text", append(append([]byte{}, good...), "x"...), key, ca.ErrUnparsable},
		{"empty key", good, nil, ca.ErrUnparsable},
		{"key is a certificate", good, good, ca.ErrUnparsable},
		{"another's key", good, keyPEM(t, other), ca.ErrKeyMismatch},
		{"a leaf", ca.EncodeCertificates(leaf.Leaf), leafKey, ca.ErrNotCA},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := ca.Load(tt.cert, tt.key)
			if !errors.Is(err, tt.want) {
				t.Errorf("error %v, want %v", err, tt.want)
			}
			if err != nil && strings.Contains(err.Error(), "PRIVATE KEY-----") {
				t.Errorf("error quotes a key: %v", err)
			}
		})
	}
}

func TestCheckTime(t *testing.T) {
	a := generate(t)
	tests := []struct {
		at   time.Duration
		want error
	}{
		{-ca.Backdate - time.Second, ca.ErrNotYetValid},
		{-ca.Backdate + time.Second, nil},
		{0, nil},
		{time.Hour, nil},
		{time.Hour + time.Second, ca.ErrExpired},
	}
	for _, tt := range tests {
		if err := a.CheckTime(epoch.Add(tt.at)); !errors.Is(err, tt.want) {
			t.Errorf("at %s: %v, want %v", tt.at, err, tt.want)
		}
	}
}

func TestIssue(t *testing.T) {
	a := generate(t)
	leaf, err := a.Issue(ca.Leaf{
		CommonName: "svc", DNSNames: []string{"svc.ns.svc"}, Now: epoch, Lifetime: 2 * time.Hour,
		Usages: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	})
	if err != nil {
		t.Fatal(err)
	}
	if !leaf.Leaf.NotAfter.Equal(a.Certificate().NotAfter) {
		t.Errorf("leaf lives until %s, beyond its CA (%s)", leaf.Leaf.NotAfter, a.Certificate().NotAfter)
	}
	roots := x509.NewCertPool()
	roots.AddCert(a.Certificate())
	opts := x509.VerifyOptions{Roots: roots, DNSName: "svc.ns.svc", CurrentTime: epoch}
	if _, err := leaf.Leaf.Verify(opts); err != nil {
		t.Error(err)
	}
	opts.DNSName = "other.ns.svc"
	if _, err := leaf.Leaf.Verify(opts); err == nil {
		t.Error("leaf is good for another name")
	}
	if leaf.Leaf.IsCA {
		t.Error("leaf can sign")
	}
	if _, err := a.Issue(ca.Leaf{Now: epoch.Add(2 * time.Hour), Lifetime: time.Hour}); !errors.Is(err, ca.ErrExpired) {
		t.Errorf("an expired CA signs: %v", err)
	}
}

func TestSignCSRTakesOnlyTheKey(t *testing.T) {
	a := generate(t)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject: pkix.Name{CommonName: "evil"}, DNSNames: []string{"evil"},
	}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	id := &url.URL{Scheme: "spiffe", Host: "cluster.local", Path: "/ns/a/sa/b"}
	cert, err := a.SignCSR(ca.Leaf{URIs: []*url.URL{id}, Now: epoch, Lifetime: time.Minute}, csr)
	if err != nil {
		t.Fatal(err)
	}
	if cert.Subject.CommonName != "" || len(cert.DNSNames) != 0 || cert.URIs[0].String() != id.String() {
		t.Errorf("names of the request were taken over: %v %v %v", cert.Subject, cert.DNSNames, cert.URIs)
	}
	if !key.PublicKey.Equal(cert.PublicKey) {
		t.Error("certificate is for another key")
	}
	csr.Signature[10] ^= 1
	if _, err := a.SignCSR(ca.Leaf{Now: epoch, Lifetime: time.Minute}, csr); err == nil {
		t.Error("a request with a broken signature was signed")
	}
}

func TestWeakKeysAreRefused(t *testing.T) {
	a := generate(t)
	weakEC, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	weakRSA := &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 223), E: 65537}
	for name, pub := range map[string]any{"P-224": weakEC.Public(), "short RSA": weakRSA, "not a key": "x"} {
		if _, err := a.Sign(ca.Leaf{Now: epoch, Lifetime: time.Minute}, pub); err == nil {
			t.Errorf("%s: signed", name)
		}
	}
}
