package identity

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"time"

	"github.com/mizzen-mesh/mizzen/internal/ca"
	"github.com/mizzen-mesh/mizzen/internal/identity/api"
)

// newRequest makes a key and a signing request without names: who the workload is, the token says.
func newRequest() (crypto.Signer, string, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, "", fmt.Errorf("make a key: %w", err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{}, key)
	if err != nil {
		return nil, "", fmt.Errorf("make a signing request: %w", err)
	}
	return key, string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der})), nil
}

// check holds what the control plane answered against what was asked for. A certificate that Envoy or the
// peers would refuse must not replace one that works. now is the control plane's time.
func check(answer api.Certificate, key crypto.Signer, namespace, serviceAccount string, now time.Time) (*tls.Certificate, roots, error) {
	r, err := parseRoots(answer.Bundle)
	if err != nil {
		return nil, roots{}, err
	}
	chain, err := ca.ParseCertificates([]byte(answer.Certificate))
	if err != nil {
		return nil, roots{}, fmt.Errorf("certificate: %w", err)
	}
	if len(chain) == 0 {
		return nil, roots{}, errors.New("certificate: none")
	}
	leaf := chain[0]
	if public, ok := leaf.PublicKey.(*ecdsa.PublicKey); !ok || !public.Equal(key.Public()) {
		return nil, roots{}, errors.New("the certificate is for another key")
	}
	want := "/ns/" + namespace + "/sa/" + serviceAccount
	if len(leaf.URIs) != 1 || leaf.URIs[0].Scheme != "spiffe" || leaf.URIs[0].Path != want {
		return nil, roots{}, fmt.Errorf("the certificate is for %v; want spiffe://<trust domain>%s", leaf.URIs, want)
	}
	c := &tls.Certificate{PrivateKey: key, Leaf: leaf}
	for _, cert := range chain {
		c.Certificate = append(c.Certificate, cert.Raw)
	}
	if err := verify(c, r, now); err != nil {
		return nil, roots{}, fmt.Errorf("certificate: %w", err)
	}
	return c, r, nil
}

// verify tells whether the roots are the certificate's, for both sides of a connection.
func verify(c *tls.Certificate, r roots, now time.Time) error {
	between := x509.NewCertPool()
	for _, der := range c.Certificate[1:] {
		if cert, err := x509.ParseCertificate(der); err == nil { // check has parsed it
			between.AddCert(cert)
		}
	}
	for _, usage := range []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth} {
		_, err := c.Leaf.Verify(x509.VerifyOptions{
			Roots: r.pool, Intermediates: between, CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{usage},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// encode gives chain and key in PEM, as Envoy reads them.
func encode(c *tls.Certificate) (chain, key []byte, err error) {
	for _, der := range c.Certificate {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	signer, ok := c.PrivateKey.(crypto.Signer)
	if !ok {
		return nil, nil, errors.New("the key cannot sign")
	}
	key, err = ca.EncodeKey(signer)
	return chain, key, err
}
