package ca_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
)

// Whatever stands in a CA's Secret: no crash, a reason that has a name, no key in it, and what is taken signs.
func FuzzLoadChain(f *testing.F) {
	root, err := ca.Generate(ca.Options{CommonName: "root", Now: epoch, Lifetime: time.Hour})
	if err != nil {
		f.Fatal(err)
	}
	key, err := root.KeyPEM()
	if err != nil {
		f.Fatal(err)
	}
	cert := root.CertPEM()
	f.Add(cert, key, cert)
	f.Add(cert, key, []byte(nil))
	f.Add(append(cert, cert...), key, cert)
	f.Add(cert, cert, key)
	f.Add([]byte("x"), []byte("-----BEGIN EC PRIVATE KEY-----\nAAAA\n-----END EC PRIVATE KEY-----"), []byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"))
	leaf := ca.Leaf{CommonName: "leaf", DNSNames: []string{"a.b"}, Now: epoch, Lifetime: time.Minute}
	f.Fuzz(func(t *testing.T, certs, key, roots []byte) {
		a, err := ca.LoadChain(certs, key, roots, leaf)
		if err != nil {
			// Sign refuses a key that is too weak with words of its own.
			if ca.Reason(err) == "Unknown" && !strings.Contains(err.Error(), "key") {
				t.Errorf("an error without a reason: %v", err)
			}
			if text := err.Error(); len(key) > 100 && strings.Contains(text, string(key[40:80])) {
				t.Errorf("the error quotes the key: %v", err)
			}
			return
		}
		if _, err := a.Issue(leaf); err != nil {
			t.Errorf("it is taken and does not sign: %v", err)
		}
		if err := a.CheckTime(leaf.Now); errors.Is(err, ca.ErrExpired) {
			t.Error(err)
		}
	})
}
