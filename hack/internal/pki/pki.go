// Package pki makes the certificates and kubeconfigs of one cluster. They live
// as long as the cluster does, so there is no renewal.
package pki

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"
)

// CA signs certificates and writes them to a directory.
type CA struct {
	dir  string
	cert *x509.Certificate
	key  crypto.Signer
	pem  []byte
}

// Leaf is a certificate to make. It serves (with names and addresses) and
// calls (as a client) alike.
type Leaf struct {
	File   string // written as File.crt and File.key
	User   string // common name: the Kubernetes user
	Groups []string
	DNS    []string
	IPs    []netip.Addr
}

// NewCA makes an authority and writes name.crt and name.key to dir.
func NewCA(dir, name string) (*CA, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		Subject:               pkix.Name{CommonName: "mizzen-cluster-" + name},
		IsCA:                  true,
		BasicConstraintsValid: true,
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
	}
	ca := &CA{dir: dir, cert: template, key: key}
	if ca.pem, err = ca.sign(template, key.Public()); err != nil {
		return nil, err
	}
	block, _ := pem.Decode(ca.pem)
	if ca.cert, err = x509.ParseCertificate(block.Bytes); err != nil {
		return nil, err
	}
	return ca, write(dir, name, ca.pem, key)
}

// PEM is the authority's own certificate.
func (ca *CA) PEM() []byte { return ca.pem }

// Issue makes one certificate and returns it and its key.
func (ca *CA) Issue(l Leaf) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		Subject:     pkix.Name{CommonName: l.User, Organization: l.Groups},
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
		DNSNames:    l.DNS,
	}
	for _, ip := range l.IPs {
		template.IPAddresses = append(template.IPAddresses, net.IP(ip.AsSlice()))
	}
	if cert, err = ca.sign(template, private.Public()); err != nil {
		return nil, nil, err
	}
	if err := write(ca.dir, l.File, cert, private); err != nil {
		return nil, nil, err
	}
	key, err = keyPEM(private)
	return cert, key, err
}

func (ca *CA) sign(template *x509.Certificate, public crypto.PublicKey) ([]byte, error) {
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 120))
	if err != nil {
		return nil, err
	}
	template.SerialNumber = serial
	template.NotBefore = time.Now().Add(-time.Hour)
	template.NotAfter = time.Now().AddDate(5, 0, 0)
	der, err := x509.CreateCertificate(rand.Reader, template, ca.cert, public, ca.key)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", template.Subject.CommonName, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), nil
}

// WriteKeyPair makes a bare key pair, name.key and name.pub: the API server
// signs and checks service account tokens with it.
func WriteKeyPair(dir, name string) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	private, err := keyPEM(key)
	if err != nil {
		return err
	}
	der, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		return err
	}
	public := pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".key"), private, 0o600),
		os.WriteFile(filepath.Join(dir, name+".pub"), public, 0o644))
}

func write(dir, name string, cert []byte, key *ecdsa.PrivateKey) error {
	private, err := keyPEM(key)
	if err != nil {
		return err
	}
	return errors.Join(
		os.WriteFile(filepath.Join(dir, name+".crt"), cert, 0o644),
		os.WriteFile(filepath.Join(dir, name+".key"), private, 0o600))
}

// keyPEM uses the SEC 1 form, which the service account code reads too.
func keyPEM(key *ecdsa.PrivateKey) ([]byte, error) {
	der, err := x509.MarshalECPrivateKey(key)
	return pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), err
}

// Kubeconfig renders a kubeconfig that needs no other file.
func Kubeconfig(server string, ca, cert, key []byte) []byte {
	b64 := base64.StdEncoding.EncodeToString
	return fmt.Appendf(nil, `apiVersion: v1
kind: Config
current-context: mizzen
contexts:
- name: mizzen
  context: {cluster: mizzen, user: mizzen}
clusters:
- name: mizzen
  cluster:
    server: %s
    certificate-authority-data: %s
users:
- name: mizzen
  user:
    client-certificate-data: %s
    client-key-data: %s
`, server, b64(ca), b64(cert), b64(key))
}
